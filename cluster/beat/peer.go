package beat

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/fsm"
)

const (
	// idleEvery is how many beats go by before the second connection carries one, so that it is known to live.
	idleEvery = beatsPerSilence
	// Reconnecting waits one beat, within these bounds.
	minRetry = 50 * time.Millisecond
	maxRetry = time.Second
)

// outgoing is a beat on its way, the same bytes for every peer.
type outgoing struct {
	seq   uint64
	bytes []byte
	every time.Duration
}

// peer sends beats to one other voter over two standing connections, each with its own goroutine. The second carries
// beats only while the first leaves them unanswered: a lost packet costs the first a retransmission timeout, which may
// be longer than the lease.
type peer struct {
	service *Service
	id      fsm.NodeID
	member  atomic.Pointer[fsm.Member] // as the state last had it
	cancel  context.CancelFunc
	first   *line
	second  *line

	lock    sync.Mutex
	last    *outgoing
	waiting *time.Timer // runs while the first connection owes an answer
	stalled bool        // it has owed one for 1.5 beats
}

func (s *Service) startPeer(ctx context.Context, m fsm.Member) *peer {
	ctx, cancel := context.WithCancel(ctx)
	p := &peer{service: s, id: m.ID, cancel: cancel}
	p.member.Store(&m)
	p.first = &line{peer: p, next: make(chan *outgoing, 1)}
	p.second = &line{peer: p, next: make(chan *outgoing, 1), spare: true}
	s.wg.Go(func() { p.first.run(ctx) })
	s.wg.Go(func() { p.second.run(ctx) })
	context.AfterFunc(ctx, func() {
		p.lock.Lock()
		defer p.lock.Unlock()
		p.settle()
	})
	return p
}

// offer replaces the beat not yet sent by out. It never blocks.
func (p *peer) offer(out *outgoing) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.last = out
	if p.waiting == nil && !p.stalled {
		p.wait()
	}
	newest(p.first.next, out)
	if p.stalled || out.seq%idleEvery == 0 {
		newest(p.second.next, out)
	}
}

// wait starts the time after which the first connection counts as stalled. Called with the lock held.
func (p *peer) wait() {
	var timer *time.Timer
	timer = time.AfterFunc(p.last.every*3/2, func() {
		p.lock.Lock()
		defer p.lock.Unlock()
		if p.waiting != timer {
			return // answered meanwhile
		}
		p.waiting, p.stalled = nil, true
		newest(p.second.next, p.last)
	})
	p.waiting = timer
}

// settle stops the waiting. Called with the lock held.
func (p *peer) settle() {
	if p.waiting != nil {
		p.waiting.Stop()
		p.waiting = nil
	}
}

// answered notes that the first connection brought a reply to seq.
func (p *peer) answered(seq uint64) {
	p.lock.Lock()
	defer p.lock.Unlock()
	p.settle()
	p.stalled = false
	if p.last != nil && seq < p.last.seq {
		p.wait()
	}
}

// line is one connection of a peer, made again whenever it ends.
type line struct {
	peer  *peer
	next  chan *outgoing // newest replaces unsent
	spare bool           // the second connection
}

// run keeps the connection standing until ctx is done.
func (l *line) run(ctx context.Context) {
	s := l.peer.service
	reachable := true
	for ctx.Err() == nil {
		conn, err := l.dial(ctx)
		if !l.spare && ctx.Err() == nil && reachable != (err == nil) {
			reachable = err == nil
			s.Logger.Info("peer reachable", "node", l.peer.id, "reachable", reachable, "error", err)
		}
		if err == nil {
			err = l.speak(ctx, conn)
			s.Logger.Debug("connection for beats ended", "node", l.peer.id, "error", err)
		}
		pause(ctx, min(max(beatEvery(s.State()), minRetry), maxRetry))
	}
}

// dial connects within half of failover_after and checks whom it reached, where the connection can tell.
func (l *line) dial(ctx context.Context) (net.Conn, error) {
	s := l.peer.service
	ctx, cancel := context.WithTimeout(ctx, failoverAfter(s.State())/2)
	defer cancel()
	conn, err := s.Dial(ctx, *l.peer.member.Load())
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if who, ok := conn.(identified); ok {
		if cluster, node := who.Peer(); cluster != s.ClusterID || node != string(l.peer.id) {
			_ = conn.Close()
			return nil, fmt.Errorf("%w: reached node %q of cluster %q", errStranger, node, cluster)
		}
	}
	return conn, nil
}

// speak sends what is offered and takes in replies until either fails.
func (l *line) speak(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		cancel(l.listen(conn))
	}()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case out := <-l.next:
			_ = conn.SetWriteDeadline(time.Now().Add(l.patience()))
			if _, err := conn.Write(out.bytes); err != nil {
				cancel(err)
			}
		}
	}
	<-done
	return context.Cause(ctx)
}

// listen takes in replies until the connection fails or owes one for too long.
func (l *line) listen(conn net.Conn) error {
	s := l.peer.service
	for {
		_ = conn.SetReadDeadline(time.Now().Add(l.patience()))
		var reply replyMessage
		if err := readMessage(conn, &reply); err != nil {
			return err
		}
		if reply.Version != wireVersion || reply.Voter != l.peer.id || reply.Incarnation != s.incarnation {
			return fmt.Errorf("%w: version %d from voter %q to incarnation %d", errWire, reply.Version, reply.Voter, reply.Incarnation)
		}
		if !l.spare {
			l.peer.answered(reply.Seq)
		}
		s.heard(reply)
	}
}

// patience is how long the connection may bring nothing before it is made again. The second one carries a beat only
// every failover_after.
func (l *line) patience() time.Duration {
	after := failoverAfter(l.peer.service.State())
	if l.spare {
		return 3 * after
	}
	return after
}
