package pgctl

import (
	"fmt"

	"github.com/quorate/quorate/internal/pg"
)

// Remains is what is left of a node's database, as its files say while no daemon runs.
type Remains struct {
	State pg.ControlState
	End   Position // of the log; where Postgres still runs under its guard, the log has at least this
	// Problem says why Postgres can't go on with it, or not without loss; empty: it can.
	Problem string
}

// Inspect reads what is left in cfg.DataDir, and what cfg.StateDir says of it. It starts nothing and changes nothing.
func Inspect(cfg Config) Remains {
	i := &Instance{cfg: cfg}
	if i.dirEmpty() {
		return Remains{Problem: fmt.Sprintf("%s is empty: %v", cfg.DataDir, ErrNoData)}
	}
	if text := i.unfinished(); text != "" {
		return Remains{Problem: text}
	}
	control, err := i.readControl()
	if err != nil {
		return Remains{Problem: err.Error()}
	}
	r := Remains{State: control.State}
	if i.has("backup_label") || control.BackupStart != 0 || control.BackupEndRequired {
		r.Problem = "it is a copy whose end was never reached"
		return r
	}
	if r.End, err = i.scan(0, false); err != nil {
		r.Problem = err.Error()
	} else if need := control.MinRecoveryPoint; need > r.End.LSN {
		r.Problem = fmt.Sprintf("its files may hold changes up to %s and its log ends at %s: part of pg_wal is missing", need, r.End.LSN)
	}
	return r
}

// unfinished says what was being done to the directory, which is nothing whole before that has ended.
func (i *Instance) unfinished() string {
	rebuild, err := loadOr(i.cfg.own(rebuildRecord), rebuildMark{})
	if err != nil {
		return err.Error()
	}
	copying, err := loadOr(i.cfg.own(planRecord), plan{})
	if err != nil {
		return err.Error()
	}
	rewind, err := loadOr(i.cfg.own(rewindRecord), rewindPlan{})
	switch {
	case err != nil:
		return err.Error()
	case copying.Phase != "" && copying.Phase != phaseDone:
		return "it was being copied anew: " + copying.Because
	case rewind.Phase != "" && rewind.Phase != rewindDone:
		return "it was being rewound"
	case rebuild.Active:
		return "it was rebuilt and had not caught up with its primary: " + rebuild.Because
	}
	return ""
}
