package beat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/fsm"
)

// acceptPause is between attempts after Accept failed for a passing reason, such as too many open files.
const acceptPause = 100 * time.Millisecond

// minIdle is the least time a silent incoming connection is kept.
const minIdle = 5 * time.Second

// identified is a connection that knows who is at the other end.
type identified interface {
	Peer() (clusterID, nodeID string)
}

// accept serves incoming connections until ctx is done.
func (s *Service) accept(ctx context.Context) error {
	for {
		conn, err := s.Listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF):
			return fmt.Errorf("accept beats: %w", err)
		case err != nil:
			s.Logger.Warn("accept failed", "error", err)
			pause(ctx, acceptPause)
		default:
			s.wg.Go(func() { s.serve(ctx, conn) })
		}
	}
}

// serve answers the beats of one connection, in order, until it ends or falls silent.
func (s *Service) serve(ctx context.Context, conn net.Conn) {
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	for {
		after := failoverAfter(s.State())
		_ = conn.SetReadDeadline(time.Now().Add(max(3*after, minIdle)))
		var msg beatMessage
		err := readMessage(conn, &msg)
		if err == nil {
			err = s.admit(conn, msg)
		}
		if errors.Is(err, errWire) || errors.Is(err, errStranger) {
			s.Logger.Warn("beats refused", "from", conn.RemoteAddr(), "error", err)
		}
		if err != nil {
			return
		}
		bytes, err := encodeMessage(s.answer(msg))
		if err != nil {
			s.Logger.Error("reply can't be sent", "error", err)
			return
		}
		_ = conn.SetWriteDeadline(time.Now().Add(after))
		if _, err := conn.Write(bytes); err != nil {
			return
		}
	}
}

// errStranger says that a beat is not from whom it should be.
var errStranger = errors.New("not a beat of this cluster")

// maxAge is older than anything on a clock that counts since boot. Ages are added up, and a sum that wraps around would have
// somebody heard of in the future: a silent primary would never be missed.
const maxAge = 100 * 365 * 24 * time.Hour

// admit checks that msg is of this protocol and cluster and from the node that the connection is with.
func (s *Service) admit(conn net.Conn, msg beatMessage) error {
	if msg.Version != wireVersion {
		return fmt.Errorf("%w: version %d, this program knows %d; upgrade the older node", errWire, msg.Version, wireVersion)
	}
	if msg.Cluster != s.ClusterID {
		return fmt.Errorf("%w: it is of cluster %q, this is %q", errStranger, msg.Cluster, s.ClusterID)
	}
	if msg.Report.Node != msg.Node || msg.Node == s.Self {
		return fmt.Errorf("%w: node %q reports for %q to %q", errStranger, msg.Node, msg.Report.Node, s.Self)
	}
	for _, a := range msg.Report.Sightings {
		if a.MS < 0 || a.MS > maxAge.Milliseconds() {
			return fmt.Errorf("%w: node %q has heard %q %d ms ago, 0 to %d are possible", errWire, msg.Node, a.Node, a.MS, maxAge.Milliseconds())
		}
	}
	if p, ok := conn.(identified); ok {
		if cluster, node := p.Peer(); cluster != s.ClusterID || node != string(msg.Node) {
			return fmt.Errorf("%w: the connection is node %q's, of cluster %q, the beat names %q", errStranger, node, cluster, msg.Node)
		}
	}
	return nil
}

// answer records the sighting and vouches if asked. A node that is not a member of the state, which may be behind, gets
// an answer without either, so that it sees the epoch.
func (s *Service) answer(msg beatMessage) replyMessage {
	state := s.State()
	reply := replyMessage{
		Version:     wireVersion,
		Voter:       s.Self,
		Incarnation: msg.Incarnation,
		Seq:         msg.Seq,
		Sealed:      fsm.Epoch(s.voter.sealed.Load()),
		Epoch:       state.Epoch,
		Primary:     state.Primary,
		Rev:         state.Rev,
	}
	if _, member := state.Members[msg.Node]; !member {
		return reply
	}
	current, changed := s.seen.record(s.Boot(), msg, 2*failoverAfter(state))
	if changed {
		s.Wake()
	}
	if !current || !msg.Vouch || replaced(state, msg) {
		return reply
	}
	vouch, err := s.voter.vouch(lease.Beat{
		Epoch:       msg.Epoch,
		Node:        msg.Node,
		Incarnation: msg.Incarnation,
		Seq:         msg.Seq,
		L:           msg.L,
		Electorate:  msg.Electorate,
	})
	if err != nil {
		s.Logger.Error("voter can't vouch", "for", msg.Node, "error", err)
	}
	reply.Sealed = vouch.Sealed
	if vouch.Yes {
		reply.Yes, reply.For = true, msg.Epoch
	}
	return reply
}

// replaced says that the applied state already names another primary for this epoch or a later one. It only spares a
// vouch: what makes a refusal safe is the seal.
func replaced(state fsm.State, msg beatMessage) bool {
	return msg.Epoch <= state.Epoch && state.Primary != msg.Node
}

// heard takes in a voter's reply to one of this incarnation's beats.
func (s *Service) heard(reply replyMessage) {
	if s.seen.answered(reply.Voter, reply.Sealed) {
		s.Wake()
	}
	if reply.Primary != s.Self {
		s.higher(reply.Epoch)
	}
	if reply.Yes {
		s.count(reply.Voter, reply.Seq, reply.For)
	}
}

// pause waits for d or ctx.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
