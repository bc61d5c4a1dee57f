package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
)

// ErrAdopt says that the data directory is not, or no longer, the one that the cluster is to begin with.
var ErrAdopt = errors.New("the data directory can't be adopted")

const adoptRecord = "adopt.bin"

// adoptPlan is the content of adopt.bin: what is about to be done to a directory that somebody else made. Each part can be
// done again.
type adoptPlan struct {
	SystemID pg.SystemID `json:"system_id"`
	Timeline pg.Timeline `json:"timeline"` // that it is to have
	From     pg.Timeline `json:"from"`     // that its log was on, 0 until that is known
	End      pg.LSN      `json:"end"`      // of its log then
	Server   int         `json:"server"`   // that ran on it and is ended, 0 for none
	// Promoting says that the recovery.signal is ours, and so is a history file of Timeline: before there was none.
	Promoting bool `json:"promoting"`
	Done      bool `json:"done"`
}

// foreign says that there is data which this node has never managed: nothing is written to it before the cluster decided
// what becomes of it.
func (i *Instance) foreign() bool {
	known := false
	i.note(func() { known = i.managed })
	return !known && !i.dirEmpty()
}

// noteManaged finds out at start whether this node ever made or took over a directory: then it has a record of live settings,
// or of a clone that came that far. A clone that is only being copied may be beside data that are somebody's.
func (i *Instance) noteManaged(p plan) error {
	_, err := os.Stat(i.cfg.own(liveRecord))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("look for %s: %w", liveRecord, err)
	}
	i.managed = err == nil || p.manages()
	return nil
}

// Adopt makes the directory of system, which this node has not managed so far, the cluster's first, as the primary of epoch,
// whose lease must be held. A server that runs on it is ended by a fast shutdown. Postgres itself recovers what crashed,
// and if it was a standby makes timeline of it, in single-user mode, where nobody can connect; quorate's roles are made in the
// same run. It does not start it. It may be repeated until Status shows that the directory is no longer foreign.
func (i *Instance) Adopt(ctx context.Context, epoch uint64, system pg.SystemID, timeline pg.Timeline) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	switch {
	case i.running():
		return fmt.Errorf("adopt the data directory: %w", ErrRunning)
	case i.dirEmpty():
		return fmt.Errorf("adopt the data directory: %w", ErrNoData)
	case !i.foreign():
		return nil
	}
	if _, err := i.lease(epoch); err != nil {
		return err
	}
	p, err := loadOr(i.cfg.own(adoptRecord), adoptPlan{})
	if err != nil {
		return err
	}
	if p.Done || p.SystemID != system || p.Timeline != timeline {
		p = adoptPlan{SystemID: system, Timeline: timeline}
	}
	if err := i.mayAdopt(p); err != nil {
		return err
	}
	if err := i.endStranger(ctx, &p); err != nil {
		return err
	}
	if err := i.planOpening(&p); err != nil {
		return err
	}
	if _, err := i.lease(epoch); err != nil { // the shutdown may have taken long
		return err
	}
	if text := i.occupied(); text != "" {
		return fmt.Errorf("%w: %s", ErrAdopt, text)
	}
	return i.takeOver(ctx, p)
}

func (i *Instance) setAdoptPlan(p adoptPlan) error {
	if err := durable.Save(i.cfg.own(adoptRecord), recordVersion, p); err != nil {
		return fmt.Errorf("record the adoption: %w", err)
	}
	return nil
}

// mayAdopt looks at the directory once more before anything is done to it.
func (i *Instance) mayAdopt(p adoptPlan) error {
	for _, look := range []func() string{i.dirProblem, i.occupied} {
		if text := look(); text != "" {
			return fmt.Errorf("%w: %s", ErrAdopt, text)
		}
	}
	control, err := i.readControl()
	switch {
	case err != nil:
		return err
	case control.SystemID != p.SystemID:
		return fmt.Errorf("%w: it is of system %s, not %s", ErrAdopt, control.SystemID, p.SystemID)
	case i.has("backup_label") || control.BackupStart != 0 || control.BackupEndRequired:
		return fmt.Errorf("%w: it is a base backup that was never recovered", ErrAdopt)
	case i.has("recovery.signal") && !p.Promoting:
		return fmt.Errorf("%w: it has a recovery.signal", ErrAdopt)
	}
	return nil
}

// endStranger ends a server that runs on the directory, after that is written down. The pid can't come to mean another
// process between the look and the signal.
func (i *Instance) endStranger(ctx context.Context, p *adoptPlan) error {
	s := i.stranger()
	if s.PID == 0 {
		return nil
	}
	if i.lastStart().manager() != "" {
		return fmt.Errorf("%w: pid %d is run by another quorate: end that one first: quorate stop", ErrAdopt, s.PID)
	}
	fd, err := unix.PidfdOpen(s.PID, 0)
	if err != nil {
		return fmt.Errorf("hold on to the server that runs on the data directory, pid %d: %w", s.PID, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if i.stranger() != s {
		return fmt.Errorf("%w: the server that runs on it has changed, pid %d", ErrAdopt, s.PID)
	}
	p.Server = s.PID
	if err := i.setAdoptPlan(*p); err != nil {
		return err
	}
	i.log.Warn("ending the server that runs on the data directory, by a fast shutdown; it is started again under the "+
		"guard. Keep anything else from starting it",
		"pid", s.PID, "port", s.Port, "data_dir", i.cfg.DataDir)
	if err := unix.PidfdSendSignal(fd, unix.SIGINT, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("end the server that runs on the data directory, pid %d: %w", s.PID, err)
	}
	for i.stranger() == s {
		if err := pause(ctx, 10*pollEvery); err != nil {
			return fmt.Errorf("wait until the server that ran on the data directory has ended, pid %d: %w", s.PID, err)
		}
	}
	return nil
}

// chooseAnew is the way out where the directory no longer fits what the cluster was founded for.
const chooseAnew = "to choose again, end quorate on all nodes, move cluster.data_dir away on each and start it"

// planOpening decides how the directory comes to its timeline and writes that down. One that was a standby is never opened
// on the timeline of its log, which another server may have gone on with.
func (i *Instance) planOpening(p *adoptPlan) error {
	control, err := i.readControl()
	if err != nil {
		return err
	}
	was := wasPrimary(control.State)
	if !was {
		if err := i.freeTimeline(*p); err != nil {
			return err
		}
	}
	end, err := i.stoppedPosition()
	if err != nil {
		return err
	}
	switch {
	case end.Timeline == p.Timeline && was:
	case end.Timeline < p.Timeline && !was:
		p.Promoting = true
	default:
		return fmt.Errorf("%w: it is %q, its log is on timeline %d, and the cluster is to begin on timeline %d; %s", ErrAdopt,
			control.State, end.Timeline, p.Timeline, chooseAnew)
	}
	p.From, p.End = end.Timeline, end.LSN
	return i.setAdoptPlan(*p)
}

// freeTimeline makes sure that there is no history of the timeline that is to be begun: Postgres would take the next number.
// One that is ours, of a timeline that was begun and never opened, goes; any other is somebody's.
func (i *Instance) freeTimeline(p adoptPlan) error {
	path := filepath.Join(i.walDir(), pg.HistoryFileName(p.Timeline))
	_, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look for the history of timeline %d: %w", p.Timeline, err)
	case !p.Promoting:
		return fmt.Errorf("%w: the cluster is to begin on timeline %d, and that is somebody's already: there is %s; %s", ErrAdopt,
			p.Timeline, path, chooseAnew)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("take back a timeline that was not opened: %w", err)
	}
	return nil
}

// opened says whether Postgres made of the directory what was planned.
func (p adoptPlan) opened(c pg.Control) error {
	if c.SystemID != p.SystemID || c.CheckpointTimeline != p.Timeline || c.State != pg.ControlShutDown {
		return fmt.Errorf("%w: after its recovery it is of system %s, %q, on timeline %d, and the cluster is to begin with system %s "+
			"on timeline %d; %s", ErrAdopt, c.SystemID, c.State, c.CheckpointTimeline, p.SystemID, p.Timeline, chooseAnew)
	}
	return nil
}

// takeOver does to the directory what the plan says.
func (i *Instance) takeOver(ctx context.Context, p adoptPlan) error {
	i.log.Info("adopting the data directory", "data_dir", i.cfg.DataDir, "system", p.SystemID.String(),
		"log_timeline", uint32(p.From), "log_end", p.End.String(), "timeline", uint32(p.Timeline))
	if lost := i.unused(); len(lost) > 0 {
		i.log.Warn("settings of the data directory that quorate sets itself are not used", "settings", strings.Join(lost, ", "))
	}
	if err := i.writeServerFiles(); err != nil {
		return err
	}
	more := []string{}
	if p.From < p.Timeline {
		if err := i.skipTimelines(p.From, p.Timeline); err != nil {
			return err
		}
		// Before the other is taken away: with neither of them a start by hand would open it on its old timeline.
		if err := i.writeFile(filepath.Join(i.cfg.DataDir, "recovery.signal"), nil); err != nil {
			return err
		}
		more = []string{"-c", fmt.Sprintf("recovery_target_timeline=%d", p.From), "-c", "restore_command=false"}
	}
	if err := i.takeSignal(); err != nil {
		return err
	}
	if err := runProgram(i.program(ctx, "postgres", i.singleUser(more)...), strings.NewReader(i.adoptionSQL())); err != nil {
		return fmt.Errorf("recover the data directory and make quorate's roles: %w", err)
	}
	control, err := i.readControl()
	if err != nil {
		return err
	}
	if err := p.opened(control); err != nil {
		return err
	}
	// What was known of its log is over; the files come before the record by which everybody takes the directory for ours.
	i.note(func() { i.cached, i.seen.lsn = nil, 0 })
	if err := errors.Join(i.writeAutoConf(i.autoConf(), live{}.settings(i.cfg, 0)), i.putSignal()); err != nil {
		return err
	}
	if err := i.setLive(live{}); err != nil {
		return err
	}
	p.Done = true
	return i.setAdoptPlan(p)
}

// singleUser are the arguments of a server without connections that runs the SQL on its standard input and ends by a shutdown
// checkpoint. No statement, which may have a password in it, shows in what it writes.
func (i *Instance) singleUser(more []string) []string {
	args := append([]string{"--single", "-D", i.cfg.DataDir}, i.commandLine(i.major)[3:]...)
	for _, set := range []string{
		"recovery_end_command=", "archive_cleanup_command=", // of the standby that it was
		"hot_standby=off", // nobody reads meanwhile, and it would ask for as many connections as the primary had
		"log_min_messages=fatal", "log_min_error_statement=panic", "log_statement=none", "log_min_duration_statement=-1",
		"logging_collector=off", "log_destination=stderr", "exit_on_error=on", "password_encryption=scram-sha-256",
		"synchronous_commit=local", "default_transaction_read_only=off",
	} {
		args = append(args, "-c", set)
	}
	return append(append(args, more...), "postgres")
}

// adoptionSQL makes the roles that Init makes, one statement per line. A role of people that is there already stays as it is,
// its password included; the replication role gets ours, without which no standby could connect. A role that only has
// quorate's name is not given the rights of a superuser: the failing cast shows the text to people.
func (i *Instance) adoptionSQL() string {
	agent, repl := pg.QuoteIdent(AgentRole), pg.QuoteIdent(i.cfg.Replication.Name)
	out := []string{
		fmt.Sprintf("SELECT (rolname || ' is the name of a role that is no superuser; quorate needs the name for itself: "+
			"rename that role')::int"+
			" FROM pg_catalog.pg_roles WHERE rolname = %s AND NOT rolsuper", pg.QuoteLiteral(AgentRole)),
		"SET exit_on_error = off",
		"CREATE ROLE " + agent + " LOGIN SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS",
		"CREATE ROLE " + repl + " LOGIN REPLICATION",
	}
	if c := i.cfg.Superuser; c.Name != "" {
		out = append(out, "CREATE ROLE "+pg.QuoteIdent(c.Name)+" LOGIN SUPERUSER CREATEDB CREATEROLE REPLICATION BYPASSRLS"+password(c))
	}
	out = append(out, "SET exit_on_error = on",
		"ALTER ROLE "+agent+" LOGIN SUPERUSER REPLICATION",
		"ALTER ROLE "+repl+" LOGIN REPLICATION"+password(i.cfg.Replication))
	for _, f := range rewindFunctions() {
		out = append(out, "GRANT EXECUTE ON FUNCTION pg_catalog."+f+" TO "+repl)
	}
	return strings.Join(out, "\n") + "\n"
}

// password is the clause that sets one, on the same line whatever is in it.
func password(c Credentials) string {
	p := c.password()
	if p == "" {
		return ""
	}
	return " PASSWORD " + strings.TrimSpace(strings.ReplaceAll(pg.QuoteLiteral(p), "\n", " "))
}
