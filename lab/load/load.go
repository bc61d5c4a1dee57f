// Package load writes into a lab's Postgres like an application does, and beside that like nobody should, and keeps what
// it was told of every write. It runs as a process of its own, so that its network is the clients'.
//
// It must never send a cancel request: cancelling a commit that waits for a standby acknowledges it. It must never count
// as acknowledged what the server answered with a warning, nor as failed what it did not answer.
package load

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// The timing of the clients, which is part of what a figure means.
const (
	WriteEvery    = 20 * time.Millisecond  // per writer
	ProbeEvery    = 20 * time.Millisecond  // per node, on a standing session
	KnockEvery    = time.Second            // per node, with a new connection: it may cost tens of milliseconds of CPU
	dialLimit     = 250 * time.Millisecond // connection and startup of one host
	writeLimit    = 500 * time.Millisecond // answer to one statement
	retryAfter    = 20 * time.Millisecond
	answeredAfter = 100 * time.Millisecond // a host whose server answered that it can't serve now
	redialAfter   = 100 * time.Millisecond // of a prober that has lost its session
	reportEvery   = 100 * time.Millisecond
)

// Spec says what to write where. It is the first line of the process's standard input.
type Spec struct {
	Hosts    []Host  `json:"hosts"`   // what writers have in their list
	Writers  int     `json:"writers"` // each with a connection of its own
	Sockets  []Host  `json:"sockets"` // what is probed: Addr is the directory of the unix socket
	Database string  `json:"database"`
	Load     Account `json:"load"`
	Prober   Account `json:"prober"`
	// DialLimit bounds connection and startup of one host; 0: what figures are taken with.
	DialLimit time.Duration `json:"dial_limit,omitempty"`
	Libpq     string        `json:"libpq"`  // table of the client that is like libpq, which has the load's role; "": there is none
	Events    string        `json:"events"` // file for the history, JSON lines of history.Write
	// Registers has clients of the load's role read and change registers, and readers look at what is there; nil: none do.
	Registers *Registers `json:"registers,omitempty"`
}

// Registers say where registers are and where their history goes.
type Registers struct {
	Table    string `json:"table"`
	Accesses string `json:"accesses"` // file, JSON lines of history.Access
	Sights   string `json:"sights"`   // file, JSON lines of history.Sight
}

// Host is one server.
type Host struct {
	Node string `json:"node"`
	Addr string `json:"addr"`
	Port string `json:"port"`
}

// Account is a role and what it writes into.
type Account struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Table    string `json:"table"`
}

// Progress is what the process prints about ten times per second, as JSON lines.
type Progress struct {
	Acks int64 `json:"acks"` // of the load, so far
}

// Now is the time on the clock of all histories: nanoseconds since boot, the same in every namespace.
func Now() int64 {
	var ts unix.Timespec
	// It fails only for a clock that does not exist.
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return ts.Nano()
}

// Main reads a Spec from in and writes until in ends, which it also does when who gave it dies, or until ctx ends.
func Main(ctx context.Context, in io.Reader, out io.Writer) error {
	r := bufio.NewReader(in)
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(line, &spec); err != nil {
		return fmt.Errorf("read what to do: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, r)
		stop()
	}()
	return Run(ctx, spec, out)
}

// Run writes until ctx ends and returns when the history is complete in its file.
func Run(ctx context.Context, spec Spec, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	rec, err := newRecorder(spec.Events)
	if err != nil {
		return err
	}
	ids := &atomic.Int64{}
	ids.Store(time.Now().UnixMicro()) // far fewer than a million per second: no two runs share an id
	p, err := newPool(spec)
	if err != nil {
		return errors.Join(err, rec.close())
	}
	var probers []*prober
	for _, h := range spec.Sockets {
		p, err := newProber(h, spec, ids, rec)
		if err != nil {
			return errors.Join(err, rec.close())
		}
		probers = append(probers, p)
	}
	var wg sync.WaitGroup
	for i := range spec.Hosts {
		wg.Go(func() { p.watch(ctx, i) })
	}
	for range spec.Writers {
		wg.Go(func() { (&writer{pool: p, table: spec.Load.Table, ids: ids, rec: rec}).run(ctx) })
	}
	if spec.Libpq != "" {
		wg.Go(func() { (&libpq{pool: p, table: spec.Libpq, ids: ids, rec: rec}).run(ctx) })
	}
	closing := func() error { return nil }
	if spec.Registers != nil {
		if closing, err = startRegisters(ctx, &wg, spec, p, ids.Load()); err != nil {
			stop()
			wg.Wait()
			return errors.Join(err, rec.close())
		}
	}
	for _, p := range probers {
		wg.Go(func() { p.stand(ctx) })
		wg.Go(func() { p.knock(ctx) })
	}
	wg.Go(func() { report(ctx, rec, out) })
	wg.Wait()
	return errors.Join(rec.close(), closing())
}

func report(ctx context.Context, rec *recorder, out io.Writer) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	enc := json.NewEncoder(out)
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if enc.Encode(Progress{Acks: rec.acks.Load()}) != nil {
				return
			}
		}
	}
}

// wait waits, shorter if ctx ends; false then.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
