package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// probeName begins as the temporary files of Postgres do, which base backups and pg_rewind leave out.
const probeName = "pgsql_tmp.quorate_probe"

// answersWithin is how soon a postmaster takes connections, if only to say that it is starting. One that an agent before
// this left hanging never answers.
const answersWithin = 10 * time.Second

// Prober tries again and again whether Postgres here takes a new session and whether its disks take a write. Each kind of
// try has a goroutine of its own: what hangs in the kernel hangs only that, and counts as failing while it does. All
// methods may be called from any goroutine.
type Prober struct {
	i     *Instance
	every time.Duration

	mu      sync.Mutex
	streaks map[Probe]streak
	run     uint64        // which ProbeConnect is about
	attempt uint64        // of ProbeConnect, the newest
	tried   time.Duration // when it was begun
	queued  queued        // at the last look at one that hangs
}

// NewProber makes the prober of i, which tries every quarter of failoverAfter.
func (i *Instance) NewProber(failoverAfter time.Duration) *Prober {
	return &Prober{i: i, every: failoverAfter / probesPerFailoverAfter, streaks: map[Probe]streak{}}
}

// Sick is the sickness that has gone on for longest, nil for none.
func (p *Prober) Sick() *Sickness {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := guard.Now()
	var worst *Sickness
	for _, kind := range []Probe{ProbeData, ProbeWAL, ProbeConnect} {
		if s := p.streaks[kind].sickness(kind, now, p.every); s != nil && (worst == nil || s.For > worst.For) {
			worst = s
		}
	}
	if s := undying(p.i.deps.Guard.Record(), now, probesPerFailoverAfter*p.every); s != nil && (worst == nil || s.For > worst.For) {
		worst = s
	}
	return worst
}

// Run probes until ctx ends. It does not wait for a try that hangs in the kernel.
func (p *Prober) Run(ctx context.Context) {
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	data, wal := make(chan struct{}, 1), make(chan struct{}, 1)
	defer close(data)
	defer close(wal)
	go p.i.onOwnThread(func() { p.files(ProbeData, data, p.i.probeData) })
	go p.i.onOwnThread(func() { p.files(ProbeWAL, wal, p.i.probeWAL) })
	for {
		p.connect(ctx)
		for kind, due := range map[Probe]chan struct{}{ProbeData: data, ProbeWAL: wal} {
			if p.begin(kind) {
				due <- struct{}{}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// begin reserves the next attempt, unless one is under way.
func (p *Prober) begin(kind Probe) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.streaks[kind]
	if !s.idle() {
		return false
	}
	p.streaks[kind] = s.begin(guard.Now())
	return true
}

func (p *Prober) end(kind Probe, o outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.failed && p.streaks[kind].failures == 0 {
		p.i.log.Warn("a probe failed", "probe", string(kind), "why", o.why)
	}
	p.streaks[kind] = p.streaks[kind].end(o)
}

func (p *Prober) files(kind Probe, due <-chan struct{}, try func() error) {
	for range due {
		p.end(kind, outcomeOf(try()))
	}
}

// connect begins the attempt that is due. There is none while nobody expects Postgres to answer: just after its
// start, while it is frozen, and when it was told to stop or has ended.
func (p *Prober) connect(ctx context.Context) {
	view := p.i.deps.Guard.Record()
	_, _, seen := p.i.snapshot()
	answers := seen.answered || guard.Now()-view.Since > answersWithin
	expected := view.State == guard.StateRunning && !view.Exited && view.Verdict != guard.VerdictStop &&
		seen.run == view.Run && answers && !seen.asked
	p.mu.Lock()
	s := p.streaks[ProbeConnect]
	if !expected || p.run != view.Run {
		// A new streak; the result of an attempt under way is dropped.
		s = streak{}
	}
	p.run = view.Run
	due := expected && s.idle()
	if due {
		s, p.tried, p.queued = s.begin(guard.Now()), guard.Now(), queued{view.PID: schedulerOf(view.PID).waited}
		p.attempt++
	}
	p.streaks[ProbeConnect] = s
	attempt, tried, before := p.attempt, p.tried, p.queued
	p.mu.Unlock()
	if due {
		go p.tryConnect(ctx, attempt)
	} else if expected && guard.Now()-tried < starvedLimit*probesPerFailoverAfter*p.every {
		p.excuse(view.PID, attempt, tried, before)
	}
}

// excuse looks why the attempt under way has not come back, and does not hold it against Postgres if there is only no CPU
// for it.
func (p *Prober) excuse(postmaster int, attempt uint64, asked time.Duration, before queued) {
	now, starved := p.i.starved(postmaster, asked, before, p.every)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.attempt != attempt {
		return
	}
	p.queued = now
	if starved {
		p.streaks[ProbeConnect] = p.streaks[ProbeConnect].excuse(guard.Now())
	}
}

// tryConnect makes one attempt; if it was given up meanwhile its outcome counts for nothing. It is not cut short: a new one
// would have to wait for as much again.
func (p *Prober) tryConnect(ctx context.Context, attempt uint64) {
	within, cancel := context.WithTimeout(ctx, 2*starvedLimit*probesPerFailoverAfter*p.every)
	defer cancel()
	o := outcomeOfConnect(p.i.probeConnect(within))
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	current := p.streaks[ProbeConnect].out && p.attempt == attempt
	p.mu.Unlock()
	if current {
		p.end(ProbeConnect, o)
	}
}

// probeConnect opens a session and asks for nothing. On a standby it is enough that the postmaster forks: nobody serves
// clients there that a whole session would stand for, and it costs a tenth.
func (i *Instance) probeConnect(ctx context.Context) error {
	var last looked
	i.note(func() { last = i.looked })
	if last.status.Run == pg.RunStandby {
		return i.forks(ctx)
	}
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	if _, err := s.value(ctx, "SELECT 1"); err != nil {
		return fmt.Errorf("ask a new session: %w", err)
	}
	return nil
}

// onOwnThread runs do with the rights to disk space of the user that Postgres runs as: root may use the blocks that a file
// system reserves for it, and would find room where Postgres has none. Rights belong to threads; this one ends with do.
func (i *Instance) onOwnThread(do func()) {
	runtime.LockOSThread() // and never unlocked: the thread must not be used for anything else
	if i.cred != nil {
		if err := errors.Join(dropReserve(), unix.Setfsgid(int(i.cred.GID)), unix.Setfsuid(int(i.cred.UID))); err != nil {
			i.log.Warn("the disk probes run with root's right to reserved space", "error", err)
		}
	}
	do()
}

// dropReserve takes CAP_SYS_RESOURCE from the calling thread: the right to reserved blocks and to exceed quotas.
func dropReserve() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read the thread's capabilities: %w", err)
	}
	data[0].Effective &^= 1 << unix.CAP_SYS_RESOURCE
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("drop CAP_SYS_RESOURCE: %w", err)
	}
	return nil
}

func (i *Instance) probeData() error {
	if i.foreign() {
		return nil // nothing is written there
	}
	return i.probeDir(i.cfg.DataDir)
}

// probeWAL leaves out what the other probe has tried already.
func (i *Instance) probeWAL() error {
	wal := filepath.Join(i.cfg.DataDir, "pg_wal")
	var data, log unix.Stat_t
	if err := unix.Stat(i.cfg.DataDir, &data); err != nil || i.foreign() {
		return nil // the other probe says why
	}
	if err := unix.Stat(wal, &log); err != nil {
		if errors.Is(err, unix.ENOENT) {
			return nil // no cluster there yet
		}
		return fmt.Errorf("look at %s: %w", wal, err)
	}
	if data.Dev == log.Dev {
		return nil
	}
	return i.probeDir(wal)
}

// probeDir writes a new file and makes it durable. The file is removed afterwards, not kept and reused: one that has its
// blocks already would be written on a full disk too. A directory without a cluster is left alone: initdb and a clone want
// it empty.
func (i *Instance) probeDir(dir string) error {
	if _, err := os.Stat(filepath.Join(i.cfg.DataDir, "PG_VERSION")); errors.Is(err, os.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	path := filepath.Join(dir, probeName)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create a file: %w", err)
	}
	_, err = f.Write(probeFile(guard.Now()))
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		err = fmt.Errorf("write and sync a file: %w", err)
	}
	return errors.Join(err, os.Remove(path))
}
