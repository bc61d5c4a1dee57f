package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// pollEvery is how often a state of the local server is looked at while a step waits for it.
const pollEvery = 2 * time.Millisecond

// StartReadOnly forks Postgres as a standby and returns at once; Status says when it answers. It follows the recorded
// upstream only if that is the primary of epoch (and was not detached from), else nobody. pg_control forgets in such a run
// that the directory was a primary's; if it follows nobody, the durable settings say so from before.
func (i *Instance) StartReadOnly(ctx context.Context, epoch uint64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.startable(); err != nil {
		return err
	}
	l, m, _ := i.snapshot()
	if l.Upstream.Epoch != epoch {
		l.Upstream = Upstream{}
	}
	control, err := i.readControl()
	if err != nil {
		return err
	}
	if err := i.raiseHotStandby(control.HotStandby()); err != nil {
		return err
	}
	if l.Upstream.Name == "" && wasPrimary(control.State) {
		l.Own = 0
		i.note(func() {
			if i.cached != nil {
				l.Own = i.cached.Timeline
			}
		})
	}
	if err := errors.Join(i.prepare(l), i.clearTimelines(control), i.putSignal()); err != nil {
		return err
	}
	return i.start(ctx, l.upstream(m.detached), guard.VerdictStandby, epoch, 0)
}

// StartPrimary forks Postgres for writing on its own timeline. It needs the lease of epoch (ErrNoLease) and a directory
// that was last run as a primary, or as a reader of its own log since. standby.signal is away until Mark, which Next asks for
// as soon as it answers.
func (i *Instance) StartPrimary(ctx context.Context, epoch uint64) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err := i.startable(); err != nil {
		return err
	}
	control, err := i.readControl()
	if err != nil {
		return err
	}
	l, _, _ := i.snapshot()
	if !wasPrimary(control.State) && l.Own == 0 {
		return fmt.Errorf("open a directory that is %q for writing: it needs a promotion: %w", control.State, ErrServing)
	}
	l.Upstream = Upstream{}
	if err := i.prepare(l); err != nil {
		return err
	}
	deadline, err := i.lease(epoch)
	if err != nil {
		return err
	}
	if err := i.takeSignal(); err != nil {
		return errors.Join(err, i.putSignal())
	}
	if err := i.start(ctx, Upstream{}, guard.VerdictServe, epoch, deadline); err != nil {
		return errors.Join(err, i.putSignal())
	}
	return nil
}

// lease returns the deadline until which epoch may serve.
func (i *Instance) lease(epoch uint64) (time.Duration, error) {
	held, deadline := i.deps.Lease()
	if left := deadline - guard.Now(); held != epoch || left <= 0 {
		return 0, fmt.Errorf("serve epoch %d: %w: it is for epoch %d and has %s left", epoch, ErrNoLease, held, left)
	}
	return deadline, nil
}

// startable refuses to start over something that runs, that is not there or that is being replaced.
func (i *Instance) startable() error {
	_, m, _ := i.snapshot()
	var busy bool
	i.note(func() { busy = i.clone != nil || i.rewind != nil || i.torn() })
	switch {
	case i.running():
		return fmt.Errorf("start: %w", ErrRunning)
	case busy || m.plan != nil:
		return fmt.Errorf("start: %w", ErrRebuilding)
	case i.dirEmpty():
		return fmt.Errorf("start: %w", ErrNoData)
	case i.foreign():
		if err := i.nobodyElse(); err != nil {
			return fmt.Errorf("start: %w", err)
		}
	}
	return nil
}

// prepare writes every file that the start reads.
func (i *Instance) prepare(l live) error {
	if _, _, last := i.snapshot(); last.answered {
		l.Admitted = true
	}
	if err := i.setLive(l); err != nil {
		return err
	}
	if err := i.writeServerFiles(); err != nil {
		return err
	}
	_, m, _ := i.snapshot()
	return i.writeAutoConf(i.autoConf(), l.settings(i.cfg, m.detached))
}

// start forks. The caller has prepared the files and holds i.mu.
func (i *Instance) start(ctx context.Context, up Upstream, v guard.Verdict, epoch uint64, deadline time.Duration) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	i.ctl.close()
	i.ctl = nil
	if err := errors.Join(i.dropDeadLocks(), i.keepHome()); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	if up.Name != "" || v != guard.VerdictStandby {
		// With nobody to follow a standby replays what is there and writes nothing.
		i.note(func() { i.cached = nil })
	}
	logFrom := i.logSize()
	run, pid, err := i.deps.Guard.Start(guard.StartRequest{
		Argv: i.commandLine(i.major), Env: []string{"LC_ALL=C.UTF-8", "PATH=" + i.cfg.BinDir + ":/usr/bin:/bin"},
		Dir: i.cfg.DataDir, Credential: i.cred, LogFile: i.cfg.LogFile(),
		L: i.cfg.leaseLength(), KillAfter: i.cfg.killAfter(), Margin: i.cfg.margin(),
		Verdict: v, Epoch: epoch, Deadline: deadline, Listen: i.cfg.listening(),
	})
	if err != nil {
		return fmt.Errorf("start the postmaster: %w", err)
	}
	i.note(func() {
		// What the checkpointer and the walsenders start with is in force.
		i.seen = seen{run: run, logFrom: logFrom, followed: time.Now(), applied: up, configured: true, proved: i.live.Sync.SSN(), isProved: true}
		if v != guard.VerdictStandby {
			i.seen.promoting = time.Now()
		}
	})
	i.log.Info("started", "pid", pid, "run", run, "verdict", v.String(), "epoch", epoch, "upstream", up.Name)
	return nil
}

// StopFast asks for a fast shutdown and waits until nothing of it runs. When box is over it returns ErrStopTimeout; the
// shutdown can't be taken back, so Kill is what is left.
func (i *Instance) StopFast(ctx context.Context, box time.Duration) error {
	if err := i.askToStop(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, box, ErrStopTimeout)
	defer cancel()
	if err := i.awaitShutdown(ctx); err != nil {
		return fmt.Errorf("shut down within %s: %w", box, errors.Join(context.Cause(ctx), err))
	}
	i.log.Info("stopped")
	return nil
}

// awaitShutdown returns when nothing runs any more. Once pg_control says that the shutdown checkpoint is durable, and the
// walsenders have ended, which they do when every standby has confirmed it, there is nothing left to lose and the rest is
// killed: the postmaster would wait 100 ms at a time for connections that it is only refusing (ServerLoop, up to 15).
func (i *Instance) awaitShutdown(ctx context.Context) error {
	view := i.deps.Guard.Record()
	for !view.Gone() {
		control, err := i.readControl()
		if err == nil && control.State == pg.ControlShutDown && view.State == guard.StateRunning {
			senders, err := walsenders(view.PID, i.cfg.clusterName())
			if err == nil && senders == 0 {
				return i.kill(ctx)
			}
		}
		if err := pause(ctx, pollEvery); err != nil {
			return err
		}
		view = i.deps.Guard.Record()
	}
	return nil
}

// askToStop holds i.mu for the signal only.
func (i *Instance) askToStop() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ctl.close()
	i.ctl = nil
	if !i.running() {
		return nil
	}
	i.note(func() { i.seen.asked = true })
	if err := i.deps.Guard.Signal("SIGINT"); err != nil && !errors.Is(err, guard.ErrNotRunning) {
		return fmt.Errorf("ask for a fast shutdown: %w", err)
	}
	return nil
}

// Kill has the guard kill everything and returns when it has proved that nothing is left.
func (i *Instance) Kill(ctx context.Context) error {
	// Not under i.mu: a step that hangs in a dead server must not keep the kill waiting.
	return i.kill(ctx)
}

func (i *Instance) kill(ctx context.Context) error {
	v := i.deps.Guard.Record()
	if v.Gone() {
		return nil
	}
	i.note(func() { i.seen.asked = true })
	// A stop is taken whatever the epoch; false means that the run was told before, or is another already.
	_ = i.deps.Guard.Set(guard.VerdictStop, v.Epoch, 0)
	if err := i.deps.Guard.WaitEmpty(ctx); err != nil {
		return fmt.Errorf("kill run %d: %w", v.Run, err)
	}
	i.log.Info("killed", "run", v.Run)
	return nil
}

// Mark is the one step after a promotion or a start for writing (DETAILS 26): no upstream is left in the settings, and
// standby.signal is back, both durable.
func (i *Instance) Mark(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.mark(ctx)
}

func (i *Instance) mark(ctx context.Context) error {
	l, _, _ := i.snapshot()
	if l.Upstream != (Upstream{}) {
		l.Upstream = Upstream{}
		if err := i.setLive(l); err != nil {
			return err
		}
	}
	changed, err := i.store(ctx)
	if err != nil {
		return err
	}
	maps.DeleteFunc(changed, func(name, _ string) bool { return slices.Contains(standbyOnly(), name) })
	if len(changed) > 0 {
		// Else a primary needs no reload, for which every process of it would read all files just when clients come back.
		if err := i.reload(ctx); err != nil {
			return err
		}
	}
	if !restoresSignal {
		return nil
	}
	return i.putSignal()
}

// standbyOnly names the live settings that a server out of recovery never looks at.
func standbyOnly() []string {
	return []string{"primary_conninfo", "primary_slot_name", "restore_command", "wal_retrieve_retry_interval"}
}

// apply brings the settings of the running server to the durable copy, or only those named: the file first, then a
// reload. It returns before the processes have taken notice. Each change costs three fsyncs.
func (i *Instance) apply(ctx context.Context, only ...string) error {
	changed, err := i.store(ctx, only...)
	if err != nil || len(changed) == 0 {
		return err
	}
	return i.reload(ctx)
}

func (i *Instance) reload(ctx context.Context) error {
	if _, err := i.exec(ctx, "SELECT pg_reload_conf()"); err != nil {
		return fmt.Errorf("reload the settings: %w", err)
	}
	return nil
}

// store is apply without the reload; it returns what it changed.
func (i *Instance) store(ctx context.Context, only ...string) (map[string]string, error) {
	l, m, _ := i.snapshot()
	want := l.settings(i.cfg, m.detached)
	changed, err := i.changedSettings(want)
	if err != nil {
		return nil, err
	}
	if len(only) > 0 {
		maps.DeleteFunc(changed, func(name, _ string) bool { return !slices.Contains(only, name) })
	}
	up := l.upstream(m.detached)
	switch {
	case len(changed) == 0:
	case i.major >= 17:
		// ALTER SYSTEM is off there, so that nobody else writes the file.
		if err := i.writeAutoConf(i.autoConf(), want); err != nil {
			return nil, err
		}
	default:
		var sql []string
		for _, name := range slices.Sorted(maps.Keys(changed)) {
			sql = append(sql, "ALTER SYSTEM SET "+name+" = "+pg.QuoteLiteral(changed[name]))
		}
		for _, statement := range sql { // each in its own transaction: ALTER SYSTEM insists
			if _, err := i.exec(ctx, statement); err != nil {
				return nil, fmt.Errorf("change %s: %w", strings.Fields(statement)[3], err)
			}
		}
	}
	i.note(func() { i.seen.applied, i.seen.configured = up, true })
	return changed, nil
}

// shown waits until every process of the server has been told the named live settings. The standing session shows them
// once the postmaster has read the file and signals its children; a connection answered after that was forked when it had
// signalled the last of them. That is what a fresh session would prove, at a fourth of its cost: most of a session is the
// reading of catalogs, which on a busy machine takes longer than a detach may (docs/decisions/0003).
func (i *Instance) shown(ctx context.Context, names ...string) error {
	l, m, _ := i.snapshot()
	want := l.settings(i.cfg, m.detached)
	var fields []string
	for _, name := range names {
		fields = append(fields, fmt.Sprintf("current_setting('%s') = %s", name, pg.QuoteLiteral(want[name])))
	}
	question := "SELECT " + strings.Join(fields, " AND ")
	for {
		v, err := i.execValue(ctx, question)
		if err != nil {
			return fmt.Errorf("read the settings: %w", err)
		}
		if v == "t" {
			return i.forks(ctx)
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("wait until %s is in force: %w", strings.Join(names, ", "), err)
		}
	}
}

// sslRequest is the shortest thing that a process forked for a connection answers, before it looks at anything else.
const sslRequest = "\x00\x00\x00\x08\x04\xd2\x16\x2f"

// forks returns when the postmaster has forked a process for a connection that was made after this call began.
func (i *Instance) forks(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", i.cfg.SocketPath())
	if err != nil {
		return fmt.Errorf("connect to the postmaster: %w", err)
	}
	defer func() { _ = conn.Close() }()
	deadline, _ := ctx.Deadline() // none is the zero time, which bounds nothing
	err = conn.SetDeadline(deadline)
	if err == nil {
		_, err = io.WriteString(conn, sslRequest)
	}
	if err == nil {
		_, err = io.ReadFull(conn, make([]byte, 1))
	}
	if err != nil {
		return fmt.Errorf("wait for the postmaster to fork: %w", err)
	}
	return nil
}

// pause waits for d or the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
