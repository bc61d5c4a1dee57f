package pgctl

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/pgctl/guard"
)

// deafGuard guards a Postgres that does not end.
type deafGuard struct{ Guard }

func (deafGuard) Record() guard.View  { return guard.View{State: guard.StateRunning} }
func (deafGuard) Signal(string) error { return nil }

// TestTheBoxOfAStop is the one that the step has.
func TestTheBoxOfAStop(t *testing.T) {
	i := &Instance{cfg: Config{DataDir: t.TempDir()}, deps: Deps{Guard: deafGuard{}}, log: hclog.NewNullLogger()}
	_, err := i.Do(t.Context(), Step{Kind: Stop, Stop: StopFast, StopBox: time.Millisecond})
	if !errors.Is(err, ErrStopTimeout) || !strings.Contains(err.Error(), "within 1ms") {
		t.Error(err)
	}
}
