package node

import (
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

func threeNodes(epoch fsm.Epoch, primary fsm.NodeID) fsm.State {
	s := fsm.State{
		ClusterID: "c", Epoch: epoch, Primary: primary, SystemID: 1, Rev: 5, Members: map[fsm.NodeID]fsm.Member{},
		Sync:    fsm.SyncRule{Members: []fsm.NodeID{"1", "2", "3"}, Copies: 2},
		Config:  fsm.Config{Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}},
		Lineage: []fsm.Lineage{{Epoch: 1, Node: "1", Timeline: 1, Promoted: true}},
	}
	for id, name := range map[fsm.NodeID]string{"1": "n1", "2": "n2", "3": "n3"} {
		s.Members[id] = fsm.Member{ID: id, Name: name, Role: fsm.RoleData, Postgres: "10.0.0." + string(id) + ":5432"}
	}
	return s
}

// TestWantOfDataThatWereThere: nobody but the node whose data were chosen opens any, and only until it has.
func TestWantOfDataThatWereThere(t *testing.T) {
	s := threeNodes(1, "1")
	s.SystemID, s.Lineage = 0, []fsm.Lineage{{Epoch: 1, Node: "1", Timeline: 3}}
	s.Adopted = &fsm.Adoption{Node: "1", SystemID: 77, Timeline: 3, Keep: []fsm.NodeID{"2"}, Aside: []fsm.NodeID{"3"}}
	for _, c := range []struct {
		self fsm.NodeID
		want pgctl.Want
	}{
		{"1", pgctl.Want{Adopt: 77}}, {"2", pgctl.Want{Keep: true}}, {"3", pgctl.Want{Aside: true}},
	} {
		w := want(situation{self: c.self, state: s})
		if w.Adopt != c.want.Adopt || w.Keep != c.want.Keep || w.Aside != c.want.Aside || w.MayInit || w.Target.Timeline != 3 {
			t.Errorf("node %s: %+v", c.self, w)
		}
	}
	s.SystemID, s.Lineage[0].Promoted = 77, true
	if w := want(situation{self: "1", state: s}); w.Adopt != 0 {
		t.Error("adopted again after it was opened")
	}
}

// TestWant: each row is what agreement and this node's own promises make of Postgres.
func TestWant(t *testing.T) {
	paused := threeNodes(0, "")
	for _, c := range []struct {
		name string
		s    situation
		role pgctl.Role
		up   string // whom it follows
		stop pgctl.StopMode
	}{
		{"before anybody was appointed nothing is touched", situation{self: "1", state: paused}, pgctl.RoleNone, "", ""},
		{"a stranger touches nothing", situation{self: "9", state: threeNodes(3, "1")}, pgctl.RoleNone, "", ""},
		{"a member that was removed shuts down", situation{self: "2", state: threeNodes(3, "1"), removed: true}, pgctl.RoleStopped, "", pgctl.StopFast},
		{"the appointed node is primary", situation{self: "1", state: threeNodes(3, "1")}, pgctl.RolePrimary, "", ""},
		{"the others follow it", situation{self: "2", state: threeNodes(3, "1")}, pgctl.RoleStandby, "n1", ""},
		{"a sealed standby follows nobody", situation{self: "2", state: threeNodes(3, "1"), sealed: 3}, pgctl.RoleStandby, "", ""},
		{"after the next appointment it follows again", situation{self: "2", state: threeNodes(4, "3"), sealed: 3}, pgctl.RoleStandby, "n3", ""},
		{"who released stays down", situation{self: "1", state: threeNodes(3, "1"), released: 3}, pgctl.RoleStopped, "", pgctl.StopKill},
		{"who released and was not replaced serves reads", situation{self: "1", state: threeNodes(3, "1"), released: 3, reads: true}, pgctl.RoleStandby, "", ""},
		{"who serves reads and is appointed again is primary", situation{self: "1", state: threeNodes(4, "1"), released: 3}, pgctl.RolePrimary, "", ""},
		{"who serves reads and is replaced follows", situation{self: "1", state: threeNodes(4, "2"), released: 3}, pgctl.RoleStandby, "n2", ""},
		{"an orderly end ends reads too", situation{self: "1", state: threeNodes(3, "1"), released: 3, reads: true, ending: true}, pgctl.RoleStopped, "", pgctl.StopFast},
		{"an older release does not matter", situation{self: "1", state: threeNodes(3, "1"), released: 2}, pgctl.RolePrimary, "", ""},
		{"who gives up stops, so that it can release", situation{self: "1", state: threeNodes(3, "1"), giveUp: true}, pgctl.RoleStopped, "", pgctl.StopKill},
		{"who hands over shuts down in order", situation{self: "1", state: threeNodes(3, "1"), handOver: true}, pgctl.RoleStopped, "", pgctl.StopFast},
		{"an orderly end shuts a standby down too", situation{self: "2", state: threeNodes(3, "1"), ending: true}, pgctl.RoleStopped, "", pgctl.StopFast},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := want(c.s)
			if w.Reinit {
				t.Error("nobody asked for a copy")
			}
			if w.Reads != (c.s.reads && !c.s.ending) {
				t.Errorf("reads: %t", w.Reads)
			}
			if w.Role != c.role || w.Upstream.Name != c.up || w.Stop != c.stop {
				t.Errorf("got role %s following %q, stop %q; want %s, %q, %q", w.Role, w.Upstream.Name, w.Stop, c.role, c.up, c.stop)
			}
		})
	}
}

// TestWantReinit: a copy is wanted of a standby only.
func TestWantReinit(t *testing.T) {
	for self, want1 := range map[fsm.NodeID]bool{"1": false, "2": true, "9": false} {
		if w := want(situation{self: self, state: threeNodes(3, "1"), reinit: true}); w.Reinit != want1 {
			t.Errorf("%s: %t", self, w.Reinit)
		}
	}
	if w := want(situation{self: "2", state: threeNodes(3, "1"), reinit: true, ending: true}); w.Reinit {
		t.Error("an orderly end begins a copy")
	}
}

// TestRestartable: whoever serves reads after its release can be appointed again; whoever follows somebody can't.
func TestRestartable(t *testing.T) {
	released := own{self: "1", state: threeNodes(3, "1"), released: &fsm.Release{Node: "1", Epoch: 3}}
	elsewhere := released
	elsewhere.state = threeNodes(3, "2")
	before := released
	before.released = &fsm.Release{Node: "1", Epoch: 2}
	for _, c := range []struct {
		name string
		o    own
		have pgctl.Status
		want bool
	}{
		{"down", released, pgctl.Status{Run: pg.RunStopped}, true},
		{"about to serve reads", released, pgctl.Status{Run: pg.RunStarting}, true},
		{"serves reads", released, pgctl.Status{Run: pg.RunStandby}, true},
		{"still being killed", released, pgctl.Status{Run: pg.RunStopping}, false},
		{"serves", before, pgctl.Status{Run: pg.RunPrimary}, false},
		{"was not released", before, pgctl.Status{Run: pg.RunStandby}, false},
		{"follows", released, pgctl.Status{Run: pg.RunStandby, Upstream: pgctl.Upstream{Name: "n2"}}, false},
		{"runs as another's standby", elsewhere, pgctl.Status{Run: pg.RunStandby}, false},
	} {
		r := report(c.have, c.o)
		if r.Restartable != c.want {
			t.Errorf("%s: %t", c.name, r.Restartable)
		}
		if r.Restartable && c.have.Run == pg.RunStandby && r.Problem == "" {
			t.Errorf("%s: the report does not say so", c.name)
		}
	}
}

func TestOnlyTheFirstPrimaryOfAnEmptyClusterMayInit(t *testing.T) {
	s := threeNodes(1, "1")
	s.SystemID = 0
	if !want(situation{self: "1", state: s}).MayInit {
		t.Error("the first primary may not make the data directory")
	}
	s.SystemID = 7
	if want(situation{self: "1", state: s}).MayInit {
		t.Error("a second data directory may be made")
	}
	s = threeNodes(2, "1")
	s.SystemID = 0
	if want(situation{self: "1", state: s}).MayInit {
		t.Error("a data directory may be made in a later epoch")
	}
}

// TestSameTenure: a lease reaches a running Postgres only when nobody else can have been primary since it was started.
func TestSameTenure(t *testing.T) {
	lineage := func(nodes ...fsm.NodeID) fsm.State {
		s := fsm.State{}
		tli := pg.Timeline(1)
		for i, n := range nodes {
			if i > 0 && n != nodes[i-1] {
				tli++
			}
			s.Lineage = append(s.Lineage, fsm.Lineage{Epoch: fsm.Epoch(i + 1), Node: n, Timeline: tli})
		}
		return s
	}
	for _, c := range []struct {
		name     string
		s        fsm.State
		from, to fsm.Epoch
		want     bool
	}{
		{"the epoch it was started for", lineage("a"), 1, 1, true},
		{"appointed again", lineage("a", "a"), 1, 2, true},
		{"appointed again twice", lineage("a", "a", "a"), 1, 3, true},
		{"another node in between", lineage("a", "b", "a"), 1, 3, false},
		{"replaced", lineage("a", "b"), 1, 2, false},
		{"an epoch that is not known yet", lineage("a"), 1, 2, false},
		{"an epoch that the lineage has forgotten", fsm.State{Lineage: []fsm.Lineage{{Epoch: 3, Node: "a", Timeline: 2}}}, 1, 3, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := sameTenure(c.s, c.from, c.to, "a"); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}

// TestALogThatEndsTooEarly: an appointed node whose log lost what it was elected for must not open.
func TestALogThatEndsTooEarly(t *testing.T) {
	s := threeNodes(2, "2")
	s.Lineage = append(s.Lineage, fsm.Lineage{Epoch: 2, Node: "2", Timeline: 2, Parent: 1, SwitchLSN: 0x5000})
	at := func(tli pg.Timeline, lsn pg.LSN) pgctl.Status {
		return pgctl.Status{Position: &pgctl.Position{Timeline: tli, LSN: lsn}}
	}
	if lostWhatElectedIt(s, at(1, 0x5000)) || lostWhatElectedIt(s, at(2, 0x4000)) || lostWhatElectedIt(s, pgctl.Status{}) {
		t.Error("a log that has everything, or is not known, counts as short")
	}
	if !lostWhatElectedIt(s, at(1, 0x4fff)) {
		t.Error("a log that ends before the position it was elected for counts as whole")
	}
}

// TestYields: an old primary lets the standbys go first that the new one's commits wait for, but not for long, and not
// when it is itself the one that is waited for.
func TestYields(t *testing.T) {
	stream := func(ids ...fsm.NodeID) (out []failover.StreamingMember) {
		for _, id := range ids {
			out = append(out, failover.StreamingMember{Node: id})
		}
		return out
	}
	three := fsm.SyncRule{Members: []fsm.NodeID{"1", "2", "3"}, Copies: 2}
	for _, c := range []struct {
		name      string
		rule      fsm.SyncRule
		streaming []failover.StreamingMember
		openFor   time.Duration
		want      bool
	}{
		{"nobody streams yet", three, nil, 0, true},
		{"the third node streams", three, stream("3"), 0, false},
		{"nobody did within the limit", three, nil, yieldFor, false},
		{"its own copy is the second", fsm.SyncRule{Members: []fsm.NodeID{"1", "2"}, Copies: 2}, nil, 0, false},
		{"nobody is waited for", fsm.SyncRule{Members: []fsm.NodeID{"2"}, Copies: 1}, nil, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := threeNodes(2, "2")
			s.Sync = c.rule
			if got := yields(s, "1", c.streaming, c.openFor); got != c.want {
				t.Errorf("got %t, want %t", got, c.want)
			}
		})
	}
}
