package e2e_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/pgctl/guard"
)

const (
	// agentAway is longer than a guard goes on by the heartbeat alone, which is 5 s.
	agentAway = 7 * time.Second
	// cutFor is several times as long as it takes to fail over.
	cutFor = 5 * time.Second
)

// TestPause takes away from a paused cluster what would end its primary otherwise, and resumes.
func TestPause(t *testing.T) {
	needHosts(t)
	b := newBroken(t)
	b.in("the agent is away", (*broken).pausedWithoutAgent)
	b.in("the primary is cut off", (*broken).pausedCutOff)
	b.in("resume", (*broken).resumeUnharmed)
	b.in("the host of the primary is lost", (*broken).pausedHostLost)
}

// pausedWithoutAgent kills the agent of the primary for longer than its heartbeat counts. Postgres serves all the time, and
// the agent that is started then adopts it.
func (b *broken) pausedWithoutAgent() {
	before := b.healthy()
	n := b.lab.Node(before.Primary)
	local, waiting := startLone(b.T, b.lab, n, "local"), startLone(b.T, b.lab, n, "on")
	b.pause(n)
	was, frozen := b.trio(n), b.said(n, "state=frozen")
	at := b.signal(syscall.SIGKILL, was.agent)
	b.await("its agent was away for "+agentAway.String(), func() bool {
		b.unharmed(before, n, was, frozen)
		if err := errors.Join(local.failed(), waiting.failed()); err != nil {
			b.Fatalf("a write failed %s after the agent was killed: %v\n%s", time.Since(at), err, b.lab.Report())
		}
		return time.Since(at) > agentAway
	})
	b.restart(n, was)
	back := time.Now()
	b.awaitServing(before)
	if is := b.trio(n); is.guard != was.guard || is.postmaster != was.postmaster || is.agent == was.agent {
		b.Errorf("processes %+v -> %+v: another agent should have adopted the others", was, is)
	}
	b.await("both sessions write on", func() bool { return local.last().After(back) && waiting.last().After(back) })
	b.unharmed(before, n, was, frozen)
	if err := errors.Join(local.failed(), waiting.failed()); err != nil {
		b.Errorf("a write failed: %v", err)
	}
}

// pausedCutOff cuts the primary off from the others, while whoever writes reaches it. Commits that wait for copies wait, and
// nothing else happens: nobody is frozen, killed or appointed.
func (b *broken) pausedCutOff() {
	before := b.newest()
	n := b.lab.Node(before.Primary)
	was, frozen := b.trio(n), b.said(n, "state=frozen")
	local := startLone(b.T, b.lab, n, "local")
	if _, err := b.lab.Break(b.Context(), lab.Partition, before, false); err != nil {
		b.Fatal(err)
	}
	at := time.Now()
	if _, err := b.sql(n, "INSERT INTO faults VALUES (-1, 'nobody')"); !errors.Is(err, os.ErrDeadlineExceeded) {
		b.Errorf("a commit that waits for a copy ended with %v", err)
	}
	b.await("it was cut off for "+cutFor.String(), func() bool {
		b.unharmed(before, n, was, frozen)
		if err := local.failed(); err != nil {
			b.Fatalf("a write that waits for no copy failed %s after the cut: %v\n%s", time.Since(at), err, b.lab.Report())
		}
		return time.Since(at) > cutFor
	})
	b.says(n, "No quorum", "status")
	b.says(n, "no lease, paused", "status")
	b.says(n, "goes on serving without one because of the pause", "status")
	mended := time.Now()
	if err := b.lab.Mend(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.await("commits are acknowledged again", func() bool { return b.ackedAfter(mended) })
	b.Logf("commits were acknowledged %s after the cut was mended", time.Since(mended).Round(time.Millisecond))
	b.awaitServing(before)
	b.unharmed(before, n, was, frozen)
	if err := local.failed(); err != nil {
		b.Errorf("a write that waits for no copy failed: %v", err)
	}
}

// resumeUnharmed: after all that the cluster is what it was.
func (b *broken) resumeUnharmed() {
	before := b.newest()
	n := b.lab.Node(before.Primary)
	was := b.trio(n)
	b.must(n, "resume", "--wait")
	b.await("the guard is told that the pause has ended", func() bool {
		_, err := os.Stat(pausedMarker(n))
		return errors.Is(err, fs.ErrNotExist)
	})
	after := b.healthy()
	if is := b.trio(n); after.Epoch != before.Epoch || after.Primary != before.Primary || is != was {
		b.Errorf("%s of epoch %d became %s of epoch %d, processes %+v -> %+v",
			before.Primary, before.Epoch, after.Primary, after.Epoch, was, is)
	}
	if ms := overlap(b.writers.kept(b.T, n, nothing)); ms > 0 {
		b.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
}

// pausedHostLost loses the host of the primary. Nobody takes over, and after resume still nobody, for the primary may write
// on without a lease as far as anybody knows. Somebody who says that it is down ends that.
func (b *broken) pausedHostLost() {
	before := b.healthy()
	n := b.lab.Node(before.Primary)
	other := b.except(n)[0]
	b.pause(other)
	lost := time.Now()
	if err := b.lab.KillHosts(n); err != nil {
		b.Fatal(err)
	}
	b.unheard(other, n, cutFor)
	b.nobodyTookOver(before)
	b.says(other, "paused (waiting)", "explain")
	b.must(other, "resume")
	b.says(other, "resume-unseen", "explain")
	b.says(other, "quorate resume --primary-is-down", "status")
	b.nobodyTookOver(before)
	b.must(other, "resume", "--primary-is-down")
	b.movedOn(before)
	if err := b.lab.ReturnHost(b.Context(), n); err != nil {
		b.Fatal(err)
	}
	after := b.healthy()
	b.writers.check(b.T, n.Name, lost, b.lab.Node(after.Primary))
	if ms := overlap(b.writers.kept(b.T, b.lab.Node(after.Primary), nothing)); ms > 0 {
		b.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
}

// pause pauses the cluster and waits until the primary's guard knows, too.
func (b *broken) pause(by *lab.Node) {
	b.Helper()
	b.must(by, "pause", "--wait")
	n := b.lab.Node(b.newest().Primary)
	b.await("the guard is told of the pause", func() bool {
		_, err := os.Stat(pausedMarker(n))
		return err == nil
	})
}

func pausedMarker(n *lab.Node) string { return filepath.Join(n.Data(), "guard", guard.PausedMarker) }

// unharmed fails if the primary's Postgres or guard has ended, or was ever frozen, or anybody else was appointed.
func (b *broken) unharmed(before lab.State, n *lab.Node, was trio, frozen int) {
	b.Helper()
	if !lives(was.postmaster) || !lives(was.guard) {
		b.Fatalf("the postmaster of %s lives: %v, its guard: %v\n%s", n.Name, lives(was.postmaster), lives(was.guard), b.lab.Report())
	}
	if now := b.said(n, "state=frozen"); now != frozen {
		b.Fatalf("Postgres on %s was frozen\n%s", n.Name, b.lab.Report())
	}
	b.nobodyTookOver(before)
}

func (b *broken) nobodyTookOver(before lab.State) {
	b.Helper()
	states, _ := b.lab.Look(b.Context())
	for name, s := range states {
		if s.Epoch != before.Epoch || s.Primary != before.Primary {
			b.Fatalf("%s says that %s is primary of epoch %d; it was %s of epoch %d", name, s.Primary, s.Epoch, before.Primary, before.Epoch)
		}
	}
}

// awaitServing waits until every node hears that the primary of before serves, and that all others stream from it. A paused
// cluster is never whole, because its leader waits.
func (b *broken) awaitServing(before lab.State) {
	b.Helper()
	b.await(before.Primary+" serves and all stream", func() bool {
		states, errs := b.lab.Look(b.Context())
		for _, s := range states {
			p := s.Nodes[before.Primary]
			if p.Age > time.Second || p.Serving != before.Epoch || len(p.Streaming) != len(b.lab.Nodes)-1 {
				return false
			}
		}
		return len(errs) == 0
	})
}
