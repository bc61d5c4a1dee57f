package failover

import (
	"testing"

	"github.com/quorate/quorate/fsm"
)

// A standby that is all that is left of its cluster elects itself by its own log, whatever durability was asked for: the
// primary that it had is given up, and nobody can say how far that was.
func TestARecoveredStandbyElectsItself(t *testing.T) {
	for _, durability := range []fsm.Durability{fsm.DurabilityQuorum, fsm.DurabilityAsync} {
		v := baseView()
		v.State.Members["n1"] = fsm.Member{ID: "n1", Name: "n1", Role: fsm.RoleData}
		v.State.Members["n2"] = fsm.Member{ID: "n2", Name: "n2", Role: fsm.RoleData}
		v.State.Config.Settings.Durability, v.State.SystemID = durability, 77
		if durability == fsm.DurabilityQuorum {
			v.State.Sync = fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2"}, Copies: 2}
		}
		var err error
		if v.State, err = v.State.Recovered("n2", "d", 1); err != nil {
			t.Fatal(err)
		}
		v.Seen["n2"] = Sighting{Report: Report{Node: "n2", Run: RunRunning, Healthy: true, Rev: v.State.Rev, Epoch: 7}}
		v.Seals["n2"] = Sealed{Epoch: 7}
		v.Positions["n2"] = fsm.Position{Node: "n2", Detached: 7, Timeline: 3, LSN: 0x5000}
		d := Decide(v)
		p, is := d.Do.(Propose)
		appoint, isAppoint := p.Command.(fsm.Appoint)
		if !is || !isAppoint || appoint.Node != "n2" {
			t.Fatalf("%s: %s (%s): %v %v", durability, d.Rule, d.Verdict, d.Do, d.Because)
		}
		next, err := v.State.Apply(fsm.Envelope{ID: "x", IfRev: p.IfRev, Change: appoint})
		if err != nil || next.Primary != "n2" || next.Epoch != 8 {
			t.Errorf("%s: %v", durability, err)
		}
	}
}
