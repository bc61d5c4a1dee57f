package fsm

import (
	"errors"
	"strings"
	"testing"
)

// good is the failover that everything below deviates from: n1 is silent in epoch 1, n2 and n3 sealed, were waited for
// and showed their logs, n2's being the longest.
func good() Appoint {
	return Appoint{IfEpoch: 1, Node: "n2", Timeline: 2, SwitchLSN: 20, Evidence: Evidence{
		Seals:     []Seal{seal("n2", 1, 800, 800), seal("n3", 1, 0, 0)},
		Positions: []Position{at("n2", 1, 1, 20), at("n3", 1, 1, 10)},
	}}
}

func TestAppointAnotherNode(t *testing.T) {
	released := func(node NodeID, epoch Epoch, lsn uint64) func(*Appoint) {
		return func(a *Appoint) {
			a.Evidence.Seals = nil
			a.Evidence.Release = &Release{Epoch: epoch, Node: node, Timeline: 1, FinalLSN: 15}
			if lsn != 0 {
				a.Evidence.Positions = []Position{at("n2", 1, 1, 20)}
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*Appoint)
		want   error
		text   string
	}{
		{name: "seals of a majority, waited for, and two of three logs suffice", change: func(*Appoint) {}},
		{"without any seal the old primary may still be vouched for", func(a *Appoint) { a.Evidence.Seals = nil }, ErrEvidence,
			"seals of epoch 1 by 0 of 3 voters, 2 needed: n1 did not answer, n2 did not answer, n3 did not answer"},
		{"one seal is not a majority of three", func(a *Appoint) { a.Evidence.Seals = a.Evidence.Seals[:1] }, ErrEvidence, "1 of 3 voters, 2 needed"},
		{"a voter counts once however often it answers", func(a *Appoint) { a.Evidence.Seals[1] = a.Evidence.Seals[0] }, ErrEvidence, "1 of 3 voters"},
		{"a seal of an earlier epoch lets the voter vouch for this one", func(a *Appoint) { a.Evidence.Seals[1].Epoch = 0 }, ErrEvidence, "n3 sealed epoch 0 only"},
		{"a wait that is not over leaves a lease running", func(a *Appoint) { a.Evidence.Seals[0].WaitedMS = 799 }, ErrEvidence, "n2 waited for 799 ms of 800 ms"},
		{"a negative wait is no wait", func(a *Appoint) { a.Evidence.Seals[1].LeftMS = -1 }, ErrEvidence, "n3 waited for 0 ms of -1 ms"},
		{"a stranger's seal is not a voter's", func(a *Appoint) { a.Evidence.Seals[1].Node = "n9" }, ErrEvidence, "n3 did not answer"},
		{"a later seal counts for this epoch too", func(a *Appoint) { a.Evidence.Seals[1].Epoch = 5 }, nil, ""},
		{"another answer of the same voter that was waited for counts", func(a *Appoint) {
			a.Evidence.Seals = append(a.Evidence.Seals, a.Evidence.Seals[0])
			a.Evidence.Seals[0].WaitedMS = 1
		}, nil, ""},

		{"the primary's release replaces seals and wait", released("n1", 1, 0), nil, ""},
		{"the end of a released primary's log counts as its position", released("n1", 1, 1), nil, ""},
		{"a release for another epoch says nothing about this one", released("n1", 0, 0), ErrEvidence, "for epoch 0, needed is one by n1 for epoch 1"},
		{"a release by another node says nothing about the primary", released("n3", 1, 0), ErrEvidence, "release is by n3"},
		{"a released primary whose log is unknown is not counted", func(a *Appoint) {
			released("n1", 1, 1)(a)
			a.Evidence.Release.FinalLSN = 0
		}, ErrEvidence, "1 of 2 positions needed while a commit is on 2 of (n1, n2, n3): missing n1, n3"},
		{"nobody behind the released primary's last record may follow it", func(a *Appoint) {
			released("n1", 1, 0)(a)
			a.Evidence.Release.FinalLSN = 21
		}, ErrEvidence, "the log of n1 ends at 0/15 on timeline 1, that of the candidate n2 at 0/14 on timeline 1"},

		{"one log is too few of three when two copies acknowledge", func(a *Appoint) { a.Evidence.Positions = a.Evidence.Positions[:1] }, ErrEvidence,
			"1 of 2 positions needed while a commit is on 2 of (n1, n2, n3): missing n1, n3"},
		{"a log counts once", func(a *Appoint) { a.Evidence.Positions[1] = a.Evidence.Positions[0] }, ErrEvidence, "two positions of n2"},
		{"a position of a node that may still stream is worth nothing", func(a *Appoint) { a.Evidence.Positions[1].Detached = 0 }, ErrEvidence, "n3 detached in epoch 0, 1 needed"},
		{"a position of a primary that may still write is worth nothing", func(a *Appoint) { a.Evidence.Positions[1].Node = "n1" }, ErrEvidence, "its release is needed"},
		{"a position of a stranger is worth nothing", func(a *Appoint) { a.Evidence.Positions[1].Node = "n9" }, ErrEvidence, "n9, which is no member"},
		{"a log on a timeline nobody knows cannot be compared", func(a *Appoint) { a.Evidence.Positions[1].Timeline = 7 }, ErrEvidence, "timeline 7, which has no place"},
		{"an empty log cannot be compared", func(a *Appoint) { a.Evidence.Positions[1].LSN = 0 }, ErrEvidence, "ends at 0/0"},
		{"a longer log of another member rules the candidate out", func(a *Appoint) { a.Evidence.Positions[1].LSN = 21 }, ErrEvidence, "the log of n3 ends at 0/15"},
		{"an equally long log does not", func(a *Appoint) { a.Evidence.Positions[1].LSN = 20 }, nil, ""},
		{"the candidate must have shown its own log", func(a *Appoint) {
			released("n1", 1, 0)(a)
			a.Evidence.Positions = a.Evidence.Positions[1:]
		}, ErrEvidence, "no position of the candidate n2"},

		{"a timeline that is taken would make two histories look like one", func(a *Appoint) { a.Timeline = 1 }, ErrLineage, "predict a higher one"},
		{"the switch must be where the candidate's log ends", func(a *Appoint) { a.SwitchLSN = 19 }, ErrLineage, "the log of n2 ends at 0/14"},
		{"a decision of another epoch is void", func(a *Appoint) { a.IfEpoch = 0 }, ErrStaleEpoch, "decided in epoch 0, now it is 1"},
		{"a stranger cannot be appointed", func(a *Appoint) { a.Node = "n9" }, ErrNotMember, "n9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, a := three(t), good()
			c.change(&a)
			next, err := try(s, a)
			if !errors.Is(err, c.want) || (err != nil && !strings.Contains(err.Error(), c.text)) {
				t.Fatalf("got %v, want %v with %q", err, c.want, c.text)
			}
			if err != nil && !sameState(t, next, s) {
				t.Fatal("the refused command changed the state")
			}
			if err == nil && (next.Epoch != 2 || next.Primary != a.Node || !next.Sync.Equal(s.Sync)) {
				t.Fatalf("epoch %d, primary %s, rule %v", next.Epoch, next.Primary, next.Sync)
			}
		})
	}
}

func TestHistoryBeforeLength(t *testing.T) {
	// n1's tail of epoch 1 is longer than what n2 acknowledged in epoch 2; only the history tells which one counts.
	s := must(t, three(t), good(), Promoted{Epoch: 2, Node: "n2", Timeline: 2, SwitchLSN: 20})
	a := Appoint{IfEpoch: 2, Node: "n1", Timeline: 3, SwitchLSN: 99, Evidence: Evidence{
		Seals:     []Seal{seal("n1", 2, 0, 0), seal("n3", 2, 0, 0)},
		Positions: []Position{at("n1", 2, 1, 99), at("n3", 2, 2, 21)},
	}}
	if _, err := try(s, a); !errors.Is(err, ErrEvidence) || !strings.Contains(err.Error(), "the log of n3 ends at 0/15 on timeline 2") {
		t.Fatalf("a long tail of an old history was elected: %v", err)
	}
	a.Node, a.SwitchLSN = "n3", 21
	next := must(t, s, a)
	if got := next.lastLineage(); got.Parent != 2 || got.SwitchLSN != 21 || got.Promoted {
		t.Fatalf("lineage %+v", got)
	}
	if !next.Sync.Equal(s.Sync) {
		t.Fatal("an appointment changed the sync rule")
	}
}

func TestAppointOutsideD(t *testing.T) {
	s := three(t)
	two := rule(2, "n1", "n2")
	s = must(t, s, SetSync{Rule: two, Promise: &Promise{Node: "n1", Rev: s.Rev, Rule: two}})
	a := good()
	a.Node, a.SwitchLSN, a.Evidence.Positions[1].LSN = "n3", 30, 30
	if _, err := try(s, a); !errors.Is(err, ErrEvidence) || !strings.Contains(err.Error(), "n3 is not among those that a commit waits for, 2 of (n1, n2)") {
		t.Fatalf("a node that commits do not wait for was elected: %v", err)
	}
}

func TestAppointFirst(t *testing.T) {
	fresh := func(durability Durability) State {
		return must(t, State{}, initOf(durability, dataMember("n1"), dataMember("n2"),
			Member{ID: "w1", Name: "w1", Role: RoleWitness}, Member{ID: "n4", Name: "n4", Role: RoleData, NoFailover: true}))
	}
	s := must(t, fresh(DurabilityQuorum), Appoint{Node: "n2"})
	if s.Epoch != 1 || s.Primary != "n2" || !s.Sync.Equal(rule(1, "n2")) {
		t.Fatalf("%+v", s)
	}
	if got := s.lastLineage(); got != (Lineage{Epoch: 1, Node: "n2", Timeline: 1}) {
		t.Fatalf("lineage %+v", got)
	}
	if s = must(t, fresh(DurabilityAsync), Appoint{Node: "n2"}); !s.Sync.Equal(rule(0)) {
		t.Fatalf("async started with %v", s.Sync)
	}
	for node, want := range map[NodeID]error{"w1": ErrNotElectable, "n4": ErrNotElectable, "n9": ErrNotMember} {
		if _, err := try(fresh(DurabilityQuorum), Appoint{Node: node}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", node, err, want)
		}
	}
	if _, err := try(must(t, fresh(DurabilityQuorum), Pause{}), Appoint{Node: "n1"}); !errors.Is(err, ErrPaused) {
		t.Errorf("a paused cluster got its first primary: %v", err)
	}
}

func TestAppointSameNode(t *testing.T) {
	s := three(t)
	s = must(t, s, AskSwitchover{ID: "w"}, SetMember{Member: func() Member { m := dataMember("n1"); m.NoFailover = true; return m }()}, Pause{}, Appoint{IfEpoch: 1, Node: "n1"})
	want := Lineage{Epoch: 2, Node: "n1", Timeline: 1, Promoted: true}
	if got := s.lastLineage(); got != want {
		t.Fatalf("lineage %+v, want %+v", got, want)
	}
	if s.Epoch != 2 || s.Wish != nil || !s.Sync.Equal(rule(2, "n1", "n2", "n3")) {
		t.Fatalf("%+v", s)
	}
}

func TestAppointPaused(t *testing.T) {
	s := must(t, three(t), Pause{})
	if _, err := try(s, good()); !errors.Is(err, ErrPaused) {
		t.Fatalf("a paused cluster replaced its primary: %v", err)
	}
	must(t, s, Resume{}, good())
}

func TestAppointAsync(t *testing.T) {
	s := must(t, State{}, initOf(DurabilityAsync, dataMember("n1"), dataMember("n2"), dataMember("n3")), Appoint{Node: "n1"})
	a := good()
	a.Evidence.Positions = nil
	taken := must(t, s, a)
	if got := taken.lastLineage(); got.Parent != 1 || got.SwitchLSN != 20 || !got.Async {
		t.Fatalf("lineage %+v", got)
	}
	if got := must(t, taken, Appoint{IfEpoch: 2, Node: "n2"}).lastLineage(); got.Async {
		t.Fatalf("n2 has its own log still: %+v", got)
	}
	a.Evidence.Positions = []Position{at("n2", 1, 1, 20), at("n3", 1, 1, 30)}
	must(t, s, a) // any node may be taken; which one is best is the leader's rule
	a.Evidence.Seals = nil
	if _, err := try(s, a); !errors.Is(err, ErrEvidence) {
		t.Fatalf("async does not excuse two writers: %v", err)
	}
}

func TestAppointEndsWish(t *testing.T) {
	s := must(t, three(t), AskSwitchover{ID: "w", To: "n2"}, BeginSwitchover{ID: "w", To: "n2"}, good())
	if s.Wish != nil {
		t.Fatalf("the wish of another epoch is still pending: %+v", s.Wish)
	}
}
