package e2e_test

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab"
)

// TestMoves: hosts come back at other addresses, with those in their own node files only. The others find them, and the
// record of the member follows. Until the primary has that record it ends the walsenders from the new address, and says nothing
// of it.
func TestMoves(t *testing.T) {
	needHosts(t)
	b := newBroken(t)
	b.in("a standby", func(b *broken) {
		before := b.healthy()
		n := b.except(b.lab.Node(before.Primary))[0]
		b.endDaemon(n, syscall.SIGINT)
		b.moves(n, ".111")
		b.awaitServing(before)
		after := b.newest()
		b.noImpostor(after)
		if after.Epoch != before.Epoch || after.Primary != before.Primary {
			b.Errorf("%s of epoch %d became %s of epoch %d", before.Primary, before.Epoch, after.Primary, after.Epoch)
		}
		got, err := b.sql(b.lab.Node(after.Primary),
			"SELECT host(client_addr) FROM pg_stat_replication WHERE application_name = '"+n.Name+"'")
		if err != nil || got != n.Addr {
			b.Errorf("%s streams from %q, not %s: %v", n.Name, got, n.Addr, err)
		}
		b.writers.kept(b.T, b.lab.Node(after.Primary), nothing)
	})
	b.in("the primary", func(b *broken) {
		before := b.newest()
		n := b.lab.Node(before.Primary)
		lost := time.Now()
		if err := b.lab.KillNodes(b.Context(), n); err != nil {
			b.Fatal(err)
		}
		b.movedOn(before)
		after := b.newest()
		b.moves(n, ".112")
		b.awaitServing(after)
		b.noImpostor(b.newest())
		b.writers.check(b.T, n.Name, lost, b.lab.Node(after.Primary))
	})
}

// moves brings a node on which nothing runs to another address of the lab's network, and waits until every node has it there.
func (b *broken) moves(n *lab.Node, host string) {
	b.Helper()
	was := n.Addr
	if err := b.lab.Move(b.Context(), n, b.lab.Net+host); err != nil {
		b.Fatal(err)
	}
	if err := b.lab.StartDaemon(n); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	b.await("everybody has "+n.Name+" at "+n.Addr, func() bool {
		for _, o := range b.lab.Nodes {
			m, ok := b.memberNow(o, n)
			if !ok || m.Addr != n.Cluster || m.API != n.API || m.Postgres != n.Postgres {
				return false
			}
		}
		return true
	})
	b.Logf("%s came back at %s instead of %s; all have it there after %s",
		n.Name, n.Addr, was, time.Since(began).Round(time.Millisecond))
}

// noImpostor: the primary says of no walsender that it was somebody else's. What it says, it says for a minute.
func (b *broken) noImpostor(now lab.State) {
	b.Helper()
	if p := now.Nodes[now.Primary].Problem; strings.Contains(p, "walsender") {
		b.Errorf("%s says that %s", now.Primary, p)
	}
}

// memberNow is how the node stands in the list of members of the one that is asked.
func (b *broken) memberNow(asked, n *lab.Node) (client.Member, bool) {
	b.Helper()
	list, err := client.Unix(asked.Socket()).Members(b.Context())
	if err != nil {
		return client.Member{}, false
	}
	for _, m := range list {
		if m.Name == n.Name {
			return m, true
		}
	}
	return client.Member{}, false
}
