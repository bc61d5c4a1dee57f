package guard

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Sentinels. Errors that come back over the socket keep their identity.
var (
	// ErrRunning: a start or quit was refused because a run isn't empty yet.
	ErrRunning = errors.New("a postmaster is still owned by the guard")
	// ErrNotRunning: a signal was sent while no postmaster of that run lives.
	ErrNotRunning = errors.New("no postmaster of that run")
	// ErrNotEmpty: processes were still there when the time for killing them ran out.
	ErrNotEmpty = errors.New("processes of the run are still alive")
	// ErrGuardRunning: another guard holds the lock of the directory.
	ErrGuardRunning = errors.New("another guard owns this directory")
	// ErrAgentRunning: another agent holds the lock of the directory.
	ErrAgentRunning = errors.New("another agent owns this directory")
	// ErrGuardLost: the guard process is gone or its connection broke. Close the
	// client and call Ensure again, which sweeps.
	ErrGuardLost = errors.New("the guard process is gone")
	// ErrIncompatible: the living guard speaks another record version. Ensure
	// replaces it.
	ErrIncompatible = errors.New("the running guard has an incompatible version")
	// ErrBadRequest: the guard refused what it was asked as malformed.
	ErrBadRequest = errors.New("bad request")
)

// Verdict is what the agent wants done with the named run. The numbers are part
// of the shared record and frozen.
type Verdict uint64

// The verdicts.
const (
	// VerdictNone is no instruction: the previous one stands.
	VerdictNone Verdict = 0
	// VerdictStandby lets a read-only Postgres run without a deadline.
	VerdictStandby Verdict = 1
	// VerdictServe lets Postgres run until the deadline.
	VerdictServe Verdict = 2
	// VerdictStop kills at once. Final for the run.
	VerdictStop Verdict = 3
	// VerdictUnleased lets Postgres run without a deadline while the cluster is
	// paused: as long as the agent refreshes its heartbeat or guard.paused exists.
	VerdictUnleased Verdict = 4
)

// String returns the verdict's word.
func (v Verdict) String() string {
	words := [...]string{"none", "standby", "serve", "stop", "unleased"}
	if v < Verdict(len(words)) {
		return words[v]
	}
	return fmt.Sprintf("verdict(%d)", uint64(v))
}

// MarshalText writes the verdict's word.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (v *Verdict) UnmarshalText(b []byte) error {
	for i := VerdictNone; i <= VerdictUnleased; i++ {
		if i.String() == string(b) {
			*v = i
			return nil
		}
	}
	return fmt.Errorf("unknown verdict %q", b)
}

// State is what the guard has done with the run. The numbers are part of the
// shared record and frozen.
type State uint64

// The states.
const (
	StateNone    State = 0 // this guard never started a postmaster
	StateRunning State = 1
	StateFrozen  State = 2 // no process of the run executes; reversible
	StateKilling State = 3 // final for this run
	StateEmpty   State = 4 // no process of the run exists any more
)

// String returns the state's word.
func (s State) String() string {
	words := [...]string{"none", "running", "frozen", "killing", "empty"}
	if s < State(len(words)) {
		return words[s]
	}
	return fmt.Sprintf("state(%d)", uint64(s))
}

// MarshalText writes the state's word.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (s *State) UnmarshalText(b []byte) error {
	for i := StateNone; i <= StateEmpty; i++ {
		if i.String() == string(b) {
			*s = i
			return nil
		}
	}
	return fmt.Errorf("unknown state %q", b)
}

// View is what the shared record says. All times are values of Now.
type View struct {
	Run      uint64        `json:"run"` // names one postmaster; never reused in this directory during one boot
	State    State         `json:"state"`
	PID      int           `json:"pid"`   // the postmaster; kept after its end
	Since    time.Duration `json:"since"` // when State was entered
	Tick     time.Duration `json:"tick"`  // the guard's last loop; older than 250 ms means a sick guard
	Verdict  Verdict       `json:"verdict"`
	Epoch    uint64        `json:"epoch"`
	Deadline time.Duration `json:"deadline"` // as obeyed: after the cap at now + L; 0 without one
	// WorstLateness is the longest time from the end of a lease to the return of
	// the freeze, over the life of the guard; FenceLate counts those above the margin.
	WorstLateness time.Duration `json:"worst_lateness"`
	FenceLate     uint64        `json:"fence_late"`
	Exited        bool          `json:"exited"`      // the postmaster was reaped
	WaitStatus    uint32        `json:"wait_status"` // as wait(2) gave it; valid if Exited
	GuardPID      int           `json:"guard_pid"`
}

// Exit says in words how the postmaster ended, "" while it hasn't.
func (v View) Exit() string {
	ws := unix.WaitStatus(v.WaitStatus)
	switch {
	case !v.Exited:
		return ""
	case ws.Signaled():
		return "signal " + unix.SignalName(ws.Signal())
	default:
		return fmt.Sprintf("exit status %d", ws.ExitStatus())
	}
}

// Gone reports whether no process of the run named by v exists.
func (v View) Gone() bool { return v.State == StateNone || v.State == StateEmpty }

// Status is the View with what the guard could get from the machine.
type Status struct {
	View
	Fence    string `json:"fence"`     // cgroup or signals
	FenceWhy string `json:"fence_why"` // why not cgroup, "" if it is
	Sched    string `json:"sched"`     // fifo, nice or normal
	Locked   string `json:"locked"`    // yes, or why memory isn't locked
	OOM      string `json:"oom"`       // protected, or why not
	Reject   string `json:"reject"`    // "yes": a frozen Postgres refuses new connections; "no: " and why not
	Version  string `json:"version"`   // of the guard's program, "" before guards said so
	Note     string `json:"note"`      // last trouble of the deadline thread
}

// Credential is the OS user Postgres runs as.
type Credential struct {
	UID    uint32   `json:"uid"`
	GID    uint32   `json:"gid"`
	Groups []uint32 `json:"groups"`
}

// StartRequest describes one run. Durations are in nanoseconds on the wire.
type StartRequest struct {
	Argv []string `json:"argv"` // argv[0] is the absolute path of the postgres binary, never pg_ctl
	Env  []string `json:"env"`
	// Dir is the working directory and must be PGDATA: Sweep knows backends that
	// lost their postmaster by binary and working directory.
	Dir        string        `json:"dir"`
	Credential *Credential   `json:"credential"` // nil: the guard's own user
	LogFile    string        `json:"log_file"`   // appended to; created with mode 0600
	L          time.Duration `json:"l"`          // lease length: no deadline later than now + L is obeyed
	KillAfter  time.Duration `json:"kill_after"` // time frozen before the kill; fencing.kill_after
	Margin     time.Duration `json:"margin"`     // a freeze later than this after the deadline is fence_late
	Verdict    Verdict       `json:"verdict"`    // standby, serve or unleased until the agent's first Set for the run
	Epoch      uint64        `json:"epoch"`
	Deadline   time.Duration `json:"deadline"`
	// Listen is where clients connect to; new connections to it are refused while the run is frozen. An unspecified
	// address means the port on all of them.
	Listen []netip.AddrPort `json:"listen,omitempty"`
}
