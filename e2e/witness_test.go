package e2e_test

import (
	"testing"

	"github.com/quorate/quorate/lab"
)

// TestTwoNodesAndAWitness loses each of the three in turn. Both copies are needed for a commit until the cluster degrades,
// so what is tested above all is that a survivor without its peer neither loses what was acknowledged nor refuses for good.
func TestTwoNodesAndAWitness(t *testing.T) {
	l := up(t, lab.Options{Nodes: 2, Witnesses: 1})
	t.Run(lab.WitnessKill, func(t *testing.T) {
		trial, r := calm(t, l, lab.Plan{Kind: lab.WitnessKill, Prober: true})
		if r.FailedOver || r.EpochAfter != r.EpochBefore {
			t.Errorf("%s -> %s, epoch %d -> %d: losing the witness changed the primary", trial.Old, trial.New, r.EpochBefore, r.EpochAfter)
		}
	})
	t.Run(lab.HostKill, func(t *testing.T) {
		trial, r := try(t, l, lab.Plan{Kind: lab.HostKill, Prober: true})
		if !r.FailedOver {
			t.Errorf("%s is still primary", trial.Old)
		}
		if r.FirstAckNewMS == nil {
			t.Errorf("%s never acknowledged a write\n%s", trial.New, l.Report())
		}
	})
	t.Run(lab.StandbyKill, func(t *testing.T) {
		if trial, r := calm(t, l, lab.Plan{Kind: lab.StandbyKill, Prober: true}); r.FailedOver {
			t.Errorf("%s -> %s: losing the standby changed the primary", trial.Old, trial.New)
		}
	})
}

// calm makes a fault after which the primary goes on, and checks that nothing is lost and that there are no two writers.
func calm(t *testing.T, l *lab.Lab, p lab.Plan) (lab.Trial, lab.Run) {
	t.Helper()
	p.Dir, p.Name = t.TempDir(), "run-001"
	trial, err := l.Try(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	b, err := lab.Recompute(p.Dir)
	if err != nil {
		t.Errorf("%v\n%s", err, l.Report())
	}
	if len(b.Runs) != 1 {
		t.Fatalf("%d runs", len(b.Runs))
	}
	r := b.Runs[0]
	l.Tell(trial)
	t.Logf("%s: write gap %.0f ms, unknown %d, well again after %.1f s", p.Kind, r.WriteGapMS, r.Unknown, r.RecoveredMS/1000)
	return trial, r
}
