package cluster

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

func TestReplicationWaitsForItsPeer(t *testing.T) {
	const id = raft.ServerID("n2")
	for _, tc := range []struct {
		name  string
		after func(p *patient, term *atomic.Uint64) // one minute later
	}{
		{"until a heartbeat is answered", func(p *patient, _ *atomic.Uint64) { p.noted(id, true) }},
		{"until the leadership ends", func(_ *patient, term *atomic.Uint64) { term.Store(8) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var term atomic.Uint64
				term.Store(7)
				p := newPatient(nil, func(at uint64) bool { return term.Load() == at })
				p.await(id, 7) // nothing is known against it
				p.noted(id, false)
				p.noted(id, false)
				began := time.Now()
				done := make(chan time.Duration)
				go func() {
					p.await(id, 7)
					done <- time.Since(began)
				}()
				time.Sleep(time.Minute)
				synctest.Wait()
				select {
				case d := <-done:
					t.Fatalf("went on after %s", d)
				default:
				}
				tc.after(p, &term)
				if d := <-done; d > time.Minute+patienceTick {
					t.Errorf("went on only after %s", d)
				}
			})
		})
	}
}

func TestOnlyHeartbeatsProbe(t *testing.T) {
	beat := raft.AppendEntriesRequest{Term: 3}
	if !isHeartbeat(&beat) {
		t.Error("a heartbeat was not taken for one")
	}
	for name, req := range map[string]raft.AppendEntriesRequest{
		"entries":      {Term: 3, Entries: []*raft.Log{{}}},
		"commit index": {Term: 3, LeaderCommitIndex: 9},
		"previous":     {Term: 3, PrevLogEntry: 4, PrevLogTerm: 2},
	} {
		if isHeartbeat(&req) {
			t.Errorf("replication (%s) was taken for a heartbeat", name)
		}
	}
}
