package node

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// TestTroubleHolds: attempts to bring a standby up wait ever longer, up to a limit; nothing else waits, and nobody who was
// appointed does.
func TestTroubleHolds(t *testing.T) {
	var tr trouble
	now := time.Minute
	for _, pause := range []int{1, 2, 4, 8, 16, 30, 30, 30} {
		if tr.holds(pgctl.Examine, pgctl.RoleStandby, 7, now) {
			t.Fatalf("after %d failures it waits for longer than it should", tr.count)
		}
		tr.failed(pgctl.Examine, "no valid record", 7, now)
		now += time.Duration(pause)*time.Second - 1
		if !tr.holds(pgctl.Examine, pgctl.RoleStandby, 7, now) {
			t.Fatalf("after %d failures it does not wait for %d s", tr.count, pause)
		}
		for _, c := range []struct {
			what  string
			step  pgctl.StepKind
			role  pgctl.Role
			epoch fsm.Epoch
			holds bool
		}{
			{"another way up", pgctl.StartReader, pgctl.RoleStandby, 7, true},
			{"an order to stop", pgctl.Stop, pgctl.RoleStandby, 7, false},
			{"a detach", pgctl.Detach, pgctl.RoleStandby, 7, false},
			{"an appointment", pgctl.StartReader, pgctl.RolePrimary, 7, false},
			{"an adoption, which nobody else can do", pgctl.Adopt, pgctl.RolePrimary, 7, true},
			{"a new epoch", pgctl.Examine, pgctl.RoleStandby, 8, false},
		} {
			if got := tr.holds(c.step, c.role, c.epoch, now); got != c.holds {
				t.Errorf("%s waits: %v", c.what, got)
			}
		}
		now++
	}
	if got := tr.String(); got != "has not come up in 8 attempts and is tried again: no valid record" {
		t.Errorf("it says %q", got)
	}
}

// TestTroubleSees: a server that ended before it answered counts once, one that answers ends the trouble.
func TestTroubleSees(t *testing.T) {
	var tr trouble
	died := pgctl.Status{Run: pg.RunStopped, GuardRun: 3, Died: "exit status 1"}
	if !tr.look(died) || tr.look(died) {
		t.Error("a start that failed counts once")
	}
	tr.failed(pgctl.StartReader, "x", 7, 0)
	if starting := (pgctl.Status{Run: pg.RunStarting, GuardRun: 4}); tr.look(starting) || tr.count != 1 {
		t.Error("one that is starting is no news")
	}
	served := died
	served.GuardRun, served.Answered = 5, true
	if tr.look(served) {
		t.Error("it had come up")
	}
	found := pgctl.Status{Run: pg.RunStopped, GuardRun: 5, Position: &pgctl.Position{LSN: 1}}
	if tr.look(found); tr.count != 1 {
		t.Error("that the log can be read does not mean that it starts")
	}
	died.GuardRun = 6
	if !tr.look(died) {
		t.Error("the next start counts, too")
	}
	if tr.look(pgctl.Status{Run: pg.RunStandby, GuardRun: 7, Answered: true}); tr.count != 0 || tr.String() != "" {
		t.Errorf("it answers and yet %+v", tr)
	}
	tr.failed(pgctl.Examine, "x", 7, 0)
	if tr.look(found); tr.count != 0 {
		t.Error("the end of the log was found")
	}
	tr.failed(pgctl.Clone, "x", 7, 0)
	if tr.look(pgctl.Status{Run: pg.RunStopped, Clone: &pgctl.CloneState{Running: true}}); tr.count != 0 {
		t.Error("the clone runs")
	}
}

// TestTroubleIsReported: status has a node's trouble, unless something else is said to be the matter.
func TestTroubleIsReported(t *testing.T) {
	have := pgctl.Status{Run: pg.RunStopped}
	if r := report(have, own{trouble: "does not come up"}); r.Problem != "does not come up" || r.Healthy {
		t.Errorf("the report says %+v", r)
	}
	if r := report(have, own{held: "another cluster's", trouble: "does not come up"}); r.Problem != "another cluster's" {
		t.Errorf("the report says %q", r.Problem)
	}
	have.Rewind = &pgctl.RewindState{Source: pgctl.Upstream{Name: "n2"}, Note: "no space"}
	if r := report(have, own{trouble: "does not come up"}); !strings.Contains(r.Problem, "no space") {
		t.Errorf("the report says %q", r.Problem)
	}
}
