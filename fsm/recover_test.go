package fsm

import (
	"errors"
	"strings"
	"testing"
)

// TestRecoveredFromDataThatWereOpened: until the first primary has opened its data nobody else has any, and nobody else could
// ever be appointed.
func TestRecoveredFromDataThatWereOpened(t *testing.T) {
	members := []Member{dataMember("n1"), dataMember("n2"), dataMember("n3")}
	fresh := must(t, State{}, initOf(DurabilityQuorum, members...), Appoint{Node: "n2"})
	taken := must(t, State{}, adopted(true), Appoint{Node: "n2", Timeline: 4})
	for _, c := range []struct {
		name string
		s    State
		self NodeID
		ok   bool
	}{
		{"a new database, another node", fresh, "n1", false},
		{"a new database, its primary", fresh, "n2", true},
		{"data adopted, another node", taken, "n1", false},
		{"data adopted, their primary", taken, "n2", true},
		{"opened, another node", must(t, taken, Promoted{Epoch: 1, Node: "n2", Timeline: 4, SwitchLSN: 920, SystemID: 77}), "n1", true},
	} {
		next, err := c.s.Recovered(c.self, "c2", 0)
		if c.ok && (err != nil || next.Generation != 2 || len(next.Members) != 1) {
			t.Errorf("%s: %+v, %v", c.name, next, err)
		}
		if !c.ok && (!errors.Is(err, ErrNotElectable) || !strings.Contains(err.Error(), "recover n2, or empty cluster.data_dir")) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestResumeAfterRecovery: nobody waits for a primary that was given up to show the resume, for it never can. One that is a
// member still has to.
func TestResumeAfterRecovery(t *testing.T) {
	members := []Member{dataMember("n1"), dataMember("n2"), dataMember("n3")}
	opened := must(t, State{}, initOf(DurabilityQuorum, members...), Appoint{Node: "n1"},
		Promoted{Epoch: 1, Node: "n1", Timeline: 1, SystemID: 77})
	for _, c := range []struct {
		self NodeID
		wait bool
	}{{"n1", true}, {"n2", false}} {
		s, err := must(t, opened, Pause{}).Recovered(c.self, "c2", 0)
		if err != nil || s.Paused || s.PauseRev != 0 {
			t.Fatalf("recovered with %s: %+v, %v", c.self, s, err)
		}
		s = must(t, s, Pause{}, Resume{})
		if s.Paused || (s.PauseRev > 0) != c.wait {
			t.Errorf("%s was recovered, the primary was n1: the resume to be shown is of revision %d", c.self, s.PauseRev)
		}
	}
}
