package cluster

import (
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// patienceTick is how often a waiting replication looks whether its leadership is over.
const patienceTick = 100 * time.Millisecond

// patient is Raft's network transport, except that replication to a peer that doesn't answer waits for the peer instead
// of failing again and again.
//
// Raft doubles the pause after every failed replication up to 10 s and never looks at the heartbeats that say meanwhile
// that the peer is back, so a node healed after half a minute stays behind for seconds (DETAILS 8). Heartbeats have a
// short back-off of their own: here they are the probe, and the first one that is answered lets replication through. After
// the one failure that found the peer gone the pause is 10 ms.
//
// A wait must end with the leadership: while replication hasn't returned, Raft goes on sending the old leader's
// heartbeats, and a peer of the same term would believe them.
type patient struct {
	*raft.NetworkTransport
	leads func(term uint64) bool // whether this node still leads in term

	mu   sync.Mutex
	down map[raft.ServerID]chan struct{} // closed when the peer answered again
}

func newPatient(inner *raft.NetworkTransport, leads func(term uint64) bool) *patient {
	return &patient{NetworkTransport: inner, leads: leads, down: make(map[raft.ServerID]chan struct{})}
}

// AppendEntries sends a heartbeat at once, and replication once the peer answers.
func (p *patient) AppendEntries(id raft.ServerID, target raft.ServerAddress, args *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if !isHeartbeat(args) {
		p.await(id, args.Term)
	}
	err := p.NetworkTransport.AppendEntries(id, target, args, resp)
	p.noted(id, err == nil)
	return err
}

// InstallSnapshot waits like replication, whose back-off it shares.
func (p *patient) InstallSnapshot(id raft.ServerID, target raft.ServerAddress, args *raft.InstallSnapshotRequest, resp *raft.InstallSnapshotResponse, data io.Reader) error {
	p.await(id, args.Term)
	err := p.NetworkTransport.InstallSnapshot(id, target, args, resp, data)
	if err != nil {
		p.noted(id, false)
	}
	return err
}

// isHeartbeat is raft's own test for what takes its fast path.
func isHeartbeat(args *raft.AppendEntriesRequest) bool {
	return args.Term != 0 && args.PrevLogEntry == 0 && args.PrevLogTerm == 0 && len(args.Entries) == 0 && args.LeaderCommitIndex == 0
}

// noted remembers whether the peer answered and lets those go that wait for it.
func (p *patient) noted(id raft.ServerID, answered bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	waiting, isDown := p.down[id]
	switch {
	case answered && isDown:
		close(waiting)
		delete(p.down, id)
	case !answered && !isDown:
		p.down[id] = make(chan struct{})
	}
}

// await returns when the peer is not known to be down, or this node doesn't lead in term any more.
func (p *patient) await(id raft.ServerID, term uint64) {
	p.mu.Lock()
	waiting, isDown := p.down[id]
	p.mu.Unlock()
	if !isDown {
		return
	}
	tick := time.NewTicker(patienceTick)
	defer tick.Stop()
	for p.leads(term) {
		select {
		case <-waiting:
			return
		case <-tick.C:
		}
	}
}
