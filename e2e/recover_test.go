package e2e_test

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab"
)

// TestRecover loses two of three hosts for good and goes on with the third by quorate recover.
func TestRecover(t *testing.T) {
	b := newWaiting(t, 3)
	first := b.lab.Nodes[0]
	b.form(b.lab.Nodes...)
	b.writers = startWriters(t, b.lab, first)
	b.in("the primary is left", (*broken).recoverPrimary)
	b.in("a standby is left", (*broken).recoverStandby)
}

// recoverPrimary: nothing is lost. A host that comes back as it was is not spoken to, and changes nothing; once they are wiped
// both may join.
func (b *broken) recoverPrimary() {
	before := b.healthy()
	left := b.lab.Node(before.Primary)
	others := b.except(left)
	b.goOnAlone(left, others, "it has every commit that it acknowledged")
	was := b.stateOf(left)

	old := others[0]
	refusals := b.refusalsOf(old, left)
	if err := b.lab.ReturnHost(b.Context(), old); err != nil {
		b.Fatal(err)
	}
	b.await(left.Name+" refuses to speak to "+old.Name, func() bool { return b.refusalsOf(old, left) > refusals })
	at := time.Now()
	b.await("many writes were acknowledged since", func() bool { return b.acksSince(at) > 200 })
	b.says(old, "No quorum", "status")
	streams, err := b.sql(left, "SELECT count(*) FROM pg_stat_replication")
	b.Logf("walsenders on %s while %s runs as it was: %s %v", left.Name, old.Name, streams, err)
	if is := b.stateOf(left); is != was {
		b.Errorf("%s came back and %+v became %+v", old.Name, was, is)
	}
	if r := b.recovering(old); r == "f" {
		b.Errorf("%s takes writes", old.Name)
	}

	if err := b.lab.KillNodes(b.Context(), old); err != nil {
		b.Fatal(err)
	}
	for _, n := range others {
		if err := b.lab.Wipe(b.Context(), n); err != nil {
			b.Fatal(err)
		}
		if err := b.lab.ReturnHost(b.Context(), n); err != nil {
			b.Fatal(err)
		}
		b.waits(n)
		b.join(n, left)
	}
	b.members(left, 3, 3)
	after := b.healthy()
	b.writers.kept(b.T, b.lab.Node(after.Primary), nothing)
}

// recoverStandby: commits of which the standby that is left has no copy are lost, and no others. How many that are is printed.
func (b *broken) recoverStandby() {
	before := b.healthy()
	primary := b.lab.Node(before.Primary)
	left := b.except(primary)[0]
	copied := b.copied(primary, left)
	after := b.goOnAlone(left, b.except(left), "Those of which no copy is here are lost.")
	if after.Primary != left.Name || after.Epoch <= before.Epoch {
		b.Errorf("%s is primary of epoch %d, before it was %s of epoch %d", after.Primary, after.Epoch, before.Primary, before.Epoch)
	}
	lost := 0
	all := b.writers.kept(b.T, left, func(a acked) bool { lost++; return a.node == primary.Name && a.at.After(copied) })
	b.Logf("of %d acknowledged writes %d are lost", len(all), lost)
}

// copied waits until the standby has all of the primary's log up to now, and returns an instant: what was acknowledged before it has a
// copy there.
func (b *broken) copied(primary, standby *lab.Node) time.Time {
	b.Helper()
	var at time.Time
	var end string
	b.await(primary.Name+" says how far its log is on disk", func() bool {
		at = time.Now()
		var err error
		end, err = b.sql(primary, "SELECT pg_current_wal_flush_lsn()") // a commit is on the primary's disk before it is acknowledged
		return err == nil
	})
	b.await(standby.Name+" has the log up to "+end, func() bool {
		has, err := b.sql(standby, "SELECT pg_last_wal_receive_lsn() >= '"+end+"'")
		return err == nil && has == "t"
	})
	return at
}

// goOnAlone kills the hosts of the others for good, recovers the one that is left, which has to say what is lost, and returns when it
// takes writes alone.
func (b *broken) goOnAlone(left *lab.Node, others []*lab.Node, loss string) lab.State {
	b.Helper()
	scope := "lab-" + b.lab.ID
	if err := b.lab.KillHosts(others...); err != nil {
		b.Fatal(err)
	}
	b.says(left, "No quorum", "status")
	b.refuses(left, "runs: end it first", "recover", "--confirm", scope)
	b.endDaemon(left, syscall.SIGTERM)
	b.refuses(left, "nothing was changed", "recover", "--confirm", "another")
	out := b.must(left, "recover", "--confirm", scope)
	for _, says := range []string{"Its PostgreSQL is usable", loss} {
		if !strings.Contains(out, says) {
			b.Errorf("what recover says of what is left of %s lacks %q:\n%s", left.Name, says, out)
		}
	}
	for _, n := range others {
		n.Outside = true
	}
	if err := b.lab.StartDaemon(left); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	s := b.healthy()
	b.await("it takes writes", func() bool { return b.acksSince(began) > 0 })
	b.must(left, "members")
	b.must(left, "status")
	return s
}

// recovered is what another node of the former cluster must not change.
type recovered struct {
	cluster    string
	generation uint64
	epoch      uint64
	rev        uint64
	members    int
}

func (b *broken) stateOf(n *lab.Node) recovered {
	b.Helper()
	e, err := client.Unix(n.Socket()).Explain(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	s := e.View.State
	return recovered{s.ClusterID, uint64(s.Generation), uint64(s.Epoch), uint64(s.Rev), len(s.Members)}
}

// refusalsOf is how often a node has logged that it refused a connection of another one's.
func (b *broken) refusalsOf(caller, by *lab.Node) int {
	b.Helper()
	log, err := os.ReadFile(by.Log())
	if err != nil {
		b.Fatal(err)
	}
	return strings.Count(string(log), "refused a connection: peer="+caller.Addr+":")
}

// acksSince is how many writes were acknowledged that began after that time.
func (b *broken) acksSince(since time.Time) int {
	b.writers.mu.Lock()
	defer b.writers.mu.Unlock()
	count := 0
	for i := len(b.writers.all) - 1; i >= 0 && b.writers.all[i].at.After(since); i-- {
		if b.writers.all[i].began.After(since) {
			count++
		}
	}
	return count
}
