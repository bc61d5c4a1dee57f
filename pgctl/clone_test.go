package pgctl

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

func kept(t *testing.T, n *node) []string {
	t.Helper()
	dirs, err := filepath.Glob(n.cfg.DataDir + ".diverged.*")
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// An old primary whose log goes past the switch is cloned anew, and what it had stays.
func TestDivergedPrimaryIsCloned(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	acked(n1)
	eventually(t, "n2 to have it", func() bool { v, err := n2.trySQL(t.Context(), "SELECT count(*) FROM t"); return err == nil && v == "1" })
	at := detach(t, n2, 1, 0)
	n1.sql("INSERT INTO t VALUES (2)") // on n1 only
	if err := n1.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	n1.hold(0)
	n1.stopAgent() // its memory of positions goes too
	n1.startAgent()

	c.epoch, c.primary = 2, n2
	c.target = rejoin.Branch{Timeline: 2, History: pg.History{{Timeline: 1, End: at.LSN}}}
	n2.hold(2)
	n2.drive(c.want(n2), "the promotion", isRun(pg.RunPrimary))
	members := []Member{{Name: "n1", Host: "127.0.0.1"}, {Name: "n2", Host: "127.0.0.1"}}
	if err := n1.SetMembers(t.Context(), members); err != nil {
		t.Fatal(err)
	}

	// While the switch is only predicted nothing is thrown away.
	c.final = false
	s := n1.drive(c.want(n1), "to wait", func(s Status) bool { return s.Position != nil })
	if step := Next(c.want(n1), s); step.Kind != Nothing {
		t.Errorf("before the promotion is known: %+v", step)
	}
	c.final = true
	n1.took()
	n1.drive(c.want(n1), "a new clone that follows", streaming)
	if got, want := n1.took(), "clone examine start-reader follow settle slots"; got != want {
		t.Errorf("n1 took %q, want %q", got, want)
	}
	if v := n1.sql("SELECT count(*) FROM t"); v != "1" {
		t.Errorf("n1 has %s rows, the primary 1", v)
	}
	old := kept(t, n1)
	if len(old) != 1 || !exists(filepath.Join(old[0], "PG_VERSION")) {
		t.Fatalf("the old directory is not kept: %v", old)
	}
}

// A clone that is killed after any of its steps is taken up by the next agent, and ends with the same.
func TestCloneResumes(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	acked(n1)
	all := len(n2.cloneSteps(nil))
	for done := range all + 1 {
		before := len(kept(t, n2))
		if err := n2.Kill(t.Context()); err != nil {
			t.Fatal(err)
		}
		mark := filepath.Join(n2.cfg.DataDir, "mark")
		if err := os.WriteFile(mark, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		crashAfter(t, n2, n1.upstream(1), done)
		n2.stopAgent()
		n2.startAgent()
		s := n2.Status(t.Context())
		if !s.Rebuilding {
			t.Errorf("after %d steps: the log is not marked as being rebuilt", done)
		}
		if _, err := n2.Examine(t.Context()); err == nil {
			t.Errorf("after %d steps: it reports a position", done)
		}
		n2.drive(c.want(n2), "the clone in place", streaming)
		old := kept(t, n2)
		if len(old) != before+1 || exists(mark) {
			t.Fatalf("after %d steps: kept %v, %d before; the old directory is still in place: %t", done, old, before, exists(mark))
		}
		slices.Sort(old)
		if !exists(filepath.Join(old[len(old)-1], "mark")) {
			t.Errorf("after %d steps: the directory kept is not the old one", done)
		}
		if left, _ := filepath.Glob(n2.cfg.DataDir + ".new.*"); len(left) > 0 {
			t.Errorf("after %d steps: left %v", done, left)
		}
	}
}

// crashAfter does the first steps of a clone and then nothing more, as a killed agent would. The copy itself is also cut
// in its middle.
func crashAfter(t *testing.T, n *node, u Upstream, steps int) {
	t.Helper()
	p, err := n.planClone(u, "a test")
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range n.cloneSteps(&cloning{source: u, ended: make(chan struct{})}) {
		if i >= steps {
			if s.name == "copy" {
				ctx, cancel := context.WithCancel(t.Context())
				go func() {
					eventually(t, "the copy to begin", func() bool { return exists(filepath.Join(p.New, "PG_VERSION")) })
					cancel()
				}()
				if err := s.do(ctx, &p); err == nil {
					t.Log("the copy was faster than its end")
				}
				cancel()
			}
			return
		}
		if err := s.do(t.Context(), &p); err != nil {
			t.Fatalf("%s: %v", s.name, err)
		}
	}
}

// Detach does not wait for a clone, and a node that clones has no position.
func TestDetachDuringClone(t *testing.T) {
	c := boot(t, "n1")
	n1 := c.members[0]
	n2 := n1.rig.node("n2")
	// A source that accepts and never answers.
	l := silentListener(t)
	if err := n2.StartClone(Upstream{Name: "n1", Host: "127.0.0.1", Port: l, Epoch: 1}, "a test"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if p, err := n2.Detach(ctx, 1); err == nil {
		t.Errorf("it reports %+v", p)
	}
	s := n2.Status(ctx)
	if s.Clone == nil || !s.Clone.Running || s.Detached != 1 {
		t.Errorf("%+v", s)
	}
	want := Want{Role: RoleStandby, Epoch: 2, SystemID: c.system, Upstream: n1.upstream(2), Target: rejoin.Branch{Timeline: 1}, Final: true}
	if step := Next(want, s); step.Kind != CancelClone {
		t.Errorf("with another source: %+v", step)
	}
	n2.CancelClone()
	if s := n2.Status(ctx); s.Clone == nil || s.Clone.Running {
		t.Errorf("after the end: %+v", s.Clone)
	}
}
