package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pgtest"
)

// TestRewindFails: only what speaks against the rewind itself leads to a clone; what may pass is tried again for as long as
// it takes, ever more rarely.
func TestRewindFails(t *testing.T) {
	full := fmt.Errorf("keep evidence: write: %w", unix.ENOSPC)
	said := func(text string) error { return errors.New("run pg_rewind: exit status 1: " + text) }
	for _, c := range []struct {
		what  string
		phase rewindPhase
		err   error
		after rewindPhase // after three times
		tries int
	}{
		{"no room for the evidence", rewindSaving, full, rewindSaving, 0},
		{"Postgres does not start", rewindRecovering, against{errors.New("postgres ended while it recovered")}, rewindRecovering, 3},
		{"the primary is away", rewindChecking, fmt.Errorf("%w: n2", errSourceAway), rewindChecking, 0},
		{"the record can't be written", rewindChecking, unix.EROFS, rewindChecking, 0},
		{"the common checkpoint is not found, for now", rewindChecking, against{io.ErrUnexpectedEOF}, rewindFailed, 3},
		{"the log can't be read off the disk", rewindChecking, against{fmt.Errorf("read: %w", unix.EIO)}, rewindFailed, 3},
		{"the log does not reach back", rewindChecking, against{fmt.Errorf("%w: its log is too short", ErrNoRewind)}, rewindFailed, 1},
		{"pg_rewind can't do it", rewindChecking, against{fmt.Errorf("%w: %w", ErrNoRewind, said("could not find common ancestor"))}, rewindFailed, 1},
		{"pg_rewind has no room", rewindChecking, against{fmt.Errorf("%w: %w", ErrNoRewind, said("could not write file: No space left on device"))}, rewindChecking, 0},
		{"pg_rewind was cut short", rewindWriting, said("No space left on device"), rewindWriting, 0},
		{"the settings can't be written", rewindFinishing, errors.New("replace it"), rewindFinishing, 0},
	} {
		p := rewindPlan{Phase: c.phase}
		for range rewindTries {
			if p.Phase == rewindFailed {
				break
			}
			p = p.failed(fmt.Errorf("a step: %w", c.err))
		}
		if p.Phase != c.after || p.Tries != c.tries || !strings.Contains(p.Note, c.err.Error()) {
			t.Errorf("%s: phase %q, %d tries, note %q; want %q, %d", c.what, p.Phase, p.Tries, p.Note, c.after, c.tries)
		}
	}
	p := rewindPlan{Phase: rewindRecovering}
	for range 2 * recoverTries { // which don't count
		p = p.failed(full)
	}
	for range recoverTries - 1 {
		p = p.failed(against{errors.New("postgres ended while it recovered")})
	}
	if after := p.failed(against{errors.New("again")}); p.Phase != rewindRecovering || after.Phase != rewindFailed {
		t.Errorf("phase %q after %d starts that failed, %q after one more", p.Phase, p.Tries, after.Phase)
	}
	p = rewindPlan{}
	for _, want := range []time.Duration{2, 4, 8, 16, 30, 30} {
		if p = p.failed(full); p.pause() != want*time.Second {
			t.Errorf("after %d failures it waits for %s", p.Fails, p.pause())
		}
	}
}

// TestDryRunWithoutThePrimary: a pg_rewind that fails while the primary goes away says nothing about the directory. One that
// can't be run is tried again, and then a clone has to do: it may not be there at all.
func TestDryRunWithoutThePrimary(t *testing.T) {
	port, err := pgtest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	i := &Instance{cfg: Config{Name: "n1", StateDir: t.TempDir(), BinDir: t.TempDir()}, major: 16, log: hclog.NewNullLogger()}
	if err := os.MkdirAll(i.cfg.pgFile(""), 0o755); err != nil {
		t.Fatal(err)
	}
	p := &rewindPlan{Phase: rewindChecking, Source: Upstream{Name: "n2", Host: "127.0.0.1", Port: port}}
	try := func() error {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		defer stop()
		return i.tryRewind(ctx, p)
	}
	err = try()
	if once := p.failed(err); !errors.Is(err, os.ErrNotExist) || once.Phase != rewindChecking || once.failed(err).failed(err).Phase != rewindFailed {
		t.Errorf("without a program: %v, then %+v", err, once)
	}
	script := "#!/bin/sh\necho 'pg_rewind: error: connection to server failed' >&2\nexit 1\n"
	if err := os.WriteFile(filepath.Join(i.cfg.BinDir, "pg_rewind"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := try(); !errors.Is(err, errSourceAway) || !strings.Contains(err.Error(), "connection to server failed") || p.failed(err).Phase != rewindChecking {
		t.Errorf("without the primary: %v", err)
	}
}

// TestRewindIsNotTornByAFullDisk: where not even the word that pg_rewind may write now can be written, it has not begun.
func TestRewindIsNotTornByAFullDisk(t *testing.T) {
	i := &Instance{cfg: Config{StateDir: t.TempDir() + "/is not there"}}
	p := rewindPlan{Phase: rewindChecking, Note: "before"}
	for _, s := range i.rewindSteps() {
		if s.name != "record that it writes" {
			continue
		}
		if err := s.do(context.Background(), &p); err == nil || p.Phase != rewindChecking {
			t.Errorf("phase %q, error %v", p.Phase, err)
		}
		return
	}
	t.Error("there is no such step")
}

// TestRewindWaitsForRoom: a disk without room for the evidence keeps the rewind waiting, which says so, and no longer.
func TestRewindWaitsForRoom(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting needs root")
	}
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	f := c.diverge(t, n2, 3)
	c.tell(t, n1)
	dir := n1.evidenceDir()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }) // it is there no more if all went well
	n1.took()
	waits := Want{Role: RoleNone} // no orders: a rewind that was begun goes on
	if _, err := n1.Examine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n1.StartRewind(n2.upstream(n1, c.epoch), c.target.Timeline, f.at.LSN, "a test"); err != nil {
		t.Fatal(err)
	}
	s := n1.drive(waits, "a failure", func(s Status) bool { return s.Rewind != nil && s.Rewind.Note != "" })
	_, m, _ := n1.snapshot()
	if !strings.Contains(s.Rewind.Note, "no space left") || s.Rewind.Over != "" || m.rewind.Tries != 0 || m.rewind.Phase != rewindSaving {
		t.Errorf("it says %q, %q; plan %+v", s.Rewind.Note, s.Rewind.Over, *m.rewind)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	s = n1.drive(c.want(n1), "to be rewound and to follow", streaming)
	if took := n1.took(); strings.Contains(took, "clone") || !strings.HasPrefix(took, "rewind examine start-reader ") {
		t.Errorf("n1 took %q", took)
	}
	c.same(t, n1)
	checkEvidence(t, s.Evidence[0], f)
}
