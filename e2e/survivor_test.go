package e2e_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/pgctl/guard"
)

// TestQuorumLost takes both standbys away: whose commits were all acknowledged serves reads, and who has some that nobody else
// has keeps clients out. Neither accepts a write, and both do again when one host is back.
func TestQuorumLost(t *testing.T) {
	b := newBroken(t)
	b.in("under load", func(b *broken) { b.survive(false) })
	b.in("in a quiet moment", func(b *broken) {
		b.writers.stop()
		b.beaten()
		b.survive(true)
	})
}

// beaten waits until the primary has heard that the others have everything that was written by now.
func (b *broken) beaten() {
	b.Helper()
	s := b.healthy()
	p := b.lab.Node(s.Primary)
	text, err := b.sql(p, "SELECT pg_current_wal_flush_lsn()")
	if err != nil {
		b.Fatal(err)
	}
	end, err := pg.ParseLSN(text)
	if err != nil {
		b.Fatal(err)
	}
	b.await("everybody has said that he has "+text, func() bool {
		_, body := b.get(p, "/v1/status")
		var doc struct {
			Nodes []struct {
				LSN pg.LSN `json:"lsn"`
			} `json:"nodes"`
		}
		if json.Unmarshal(body, &doc) != nil || len(doc.Nodes) != len(b.lab.Nodes) {
			return false
		}
		for _, n := range doc.Nodes {
			if n.LSN < end {
				return false
			}
		}
		return true
	})
}

// survive kills both standbys' hosts and brings one back.
func (b *broken) survive(reads bool) {
	b.Helper()
	before := b.healthy()
	p := b.lab.Node(before.Primary)
	var gone []*lab.Node
	was := map[string]trio{}
	var pids []int
	for _, n := range b.lab.Nodes {
		if n != p {
			gone = append(gone, n)
			was[n.Name] = b.trio(n)
			pids = append(pids, was[n.Name].agent, was[n.Name].guard, was[n.Name].postmaster)
		}
	}
	old, watch := b.trio(p), b.watchGuard(p)
	var local *lone
	if !reads { // what only this node has would keep it from serving reads
		local = startLone(b.T, b.lab, p, "local")
	}
	at := b.signal(syscall.SIGKILL, pids...)
	b.await("nobody can vouch", func() bool { return !lives(was[gone[0].Name].agent) && !lives(was[gone[1].Name].agent) })
	cut := guard.Now()
	after := func() time.Duration { return time.Since(at).Round(time.Millisecond) }
	b.await("the survivor is fenced", func() bool { return !lives(old.postmaster) })
	b.Logf("%s was fenced after %s", p.Name, after())
	watch.withinTheLease(before, cut, local)

	if reads {
		b.await("reads", func() bool {
			v, err := b.sql(p, "SELECT pg_is_in_recovery() AND count(*) > 0 FROM faults")
			return err == nil && v == "t"
		})
		b.Logf("it served reads after %s", after())
		if _, err := b.sql(p, "INSERT INTO faults VALUES (-1, 'nobody')"); !strings.Contains(errText(err), "25006") {
			b.Errorf("a write: %v", err)
		}
	} else {
		b.await("the gate", func() bool {
			_, err := b.sql(p, "SELECT 1")
			return strings.Contains(errText(err), "28000")
		})
		b.Logf("it ran read-only behind the gate after %s", after())
	}
	for path, want := range map[string]int{"/primary": 503, "/replica": map[bool]int{true: 200, false: 503}[reads]} {
		b.await(path, func() bool {
			code, _ := b.get(p, path)
			return code == want
		})
	}
	var status struct {
		Summary  string
		Quorum   bool
		Problems []string
	}
	b.await("it says what is missing", func() bool {
		_, body := b.get(p, "/v1/status")
		said := string(body)
		return json.Unmarshal(body, &status) == nil && !status.Quorum && strings.Contains(said, p.Name+": it has lost its lease") &&
			strings.Contains(said, gone[0].Name+": last heard") && strings.Contains(said, gone[1].Name+": last heard")
	})
	b.Logf("it says: %s %q", status.Summary, status.Problems)

	back := time.Now()
	b.restart(gone[0], was[gone[0].Name])
	b.await("writes", func() bool {
		for _, n := range []*lab.Node{p, gone[0]} {
			if _, err := b.sql(n, "CREATE TABLE IF NOT EXISTS again (); INSERT INTO again DEFAULT VALUES"); err == nil {
				b.Logf("%s acknowledged a write %s after the start of %s", n.Name, time.Since(back).Round(time.Millisecond), gone[0].Name)
				return true
			}
		}
		return false
	})
	b.restart(gone[1], was[gone[1].Name])
	end := b.healthy()
	b.writers.kept(b.T, b.lab.Node(end.Primary), nothing)
}

// sql runs a statement in a session of its own.
func (b *broken) sql(n *lab.Node, sql string) (string, error) {
	c, err := dial(b.lab, n)
	if err != nil {
		return "", err
	}
	defer hang(c)
	rows, err := run1(c, sql)
	return strings.Join(rows, " "), err
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// get asks the node's API; the code is 0 if there is no answer.
func (b *broken) get(n *lab.Node, path string) (code int, body []byte) {
	c := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", n.Socket())
	}}}
	r, err := c.Get("http://node" + path)
	if err != nil {
		return 0, nil
	}
	defer func() { _ = r.Body.Close() }()
	body, _ = io.ReadAll(r.Body) // half a document is none
	return r.StatusCode, body
}
