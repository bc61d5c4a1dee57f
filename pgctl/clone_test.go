package pgctl

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
		crashAfter(t, n2, n1.upstream(n2, 1), done)
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
	p, err := n.planClone(Step{Kind: Clone, Upstream: u, Because: "a test"})
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
	want := Want{Role: RoleStandby, Epoch: 2, SystemID: c.system, Upstream: n1.upstream(n2, 2), Target: rejoin.Branch{Timeline: 1}, Final: true}
	if step := Next(want, s); step.Kind != CancelClone {
		t.Errorf("with another source: %+v", step)
	}
	n2.CancelClone()
	if s := n2.Status(ctx); s.Clone == nil || s.Clone.Running {
		t.Errorf("after the end: %+v", s.Clone)
	}
}

// A clone with a password that the primary does not take ends at once instead of asking for another one, says so in
// Postgres's words, and leaves nothing.
func TestCloneWithAWrongPassword(t *testing.T) {
	c := boot(t, "n1")
	n1 := c.members[0]
	n2 := n1.rig.node("n2")
	n2.stopAgent()
	n2.cfg.Replication.Password = "another"
	n2.startAgent()
	if err := n1.SetMembers(t.Context(), []Member{local("n2")}); err != nil {
		t.Fatal(err)
	}
	if err := n1.SetSlots(t.Context(), []string{slotOf("n2")}, true); err != nil {
		t.Fatal(err)
	}
	if err := n2.StartClone(n1.upstream(n2, 1), "a test"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the refusal", func() bool {
		s := n2.Status(t.Context())
		return s.Clone != nil && strings.Contains(s.Clone.Note, "password authentication failed")
	})
	if exists(n2.cfg.DataDir) && !n2.dirEmpty() {
		t.Error("there is something in the data directory")
	}
}

// What a copy lacks is told by the copy, whatever was believed when it was begun.
func TestPlanLacks(t *testing.T) {
	local := &Position{Timeline: 2, LSN: 0x900, History: branch(t, "1@500,2").History, Oldest: 0x100}
	early := func(from uint64) *discard { return &discard{From: pg.LSN(from), To: 0x900} }
	for _, c := range []struct {
		name   string
		plan   plan
		copied string
		from   pg.LSN // 0: nothing
	}{
		{"the same timeline", plan{Local: local}, "1@500,2", 0},
		{"the source went on after all that is here", plan{Local: local}, "1@500,2@900,3", 0},
		{"thought to be in the source's history, and is not", plan{Local: local}, "1@500,2@700,3", 0x700},
		{"kept before", plan{Local: local, Discard: early(0x700)}, "1@500,2@700,3", 0},
		{"more was kept before", plan{Local: local, Discard: early(0x600)}, "1@500,2@700,3", 0},
		{"another source parted earlier", plan{Local: local, Discard: early(0x700)}, "1@400,4", 0x400},
		{"nothing in common", plan{Local: local, Discard: early(0x700)}, "7", 0x100},
		{"the end of the log is not known", plan{}, "1@400,4", 0},
	} {
		d, lacks := c.plan.lacks(branch(t, c.copied))
		if lacks != (c.from != 0) || lacks && (d.From != c.from || d.To != 0x900 || d.Timeline != 2 || d.Way != "clone") {
			t.Errorf("%s: %+v, %t; want from %s", c.name, d, lacks, c.from)
		}
	}
}

// A node that had not heard of its primary's newest timeline clones in the belief that nothing goes. What does is kept.
func TestCloneKeepsWhatItsCopyLacks(t *testing.T) {
	c := boot(t, "n1", "n2")
	n1, n2 := c.members[0], c.members[1]
	f := c.diverge(t, n2, 2)
	c.tell(t, n1)
	if _, err := n1.Examine(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n1.StartClone(n2.upstream(n1, c.epoch), "a test"); err != nil {
		t.Fatal(err)
	}
	s := n1.drive(c.want(n1), "a new clone that follows", streaming)
	c.same(t, n1)
	if len(s.Evidence) != 1 || len(keptAs(t, n1, "diverged")) != 1 {
		t.Fatalf("evidence %+v, kept %v", s.Evidence, keptAs(t, n1, "*"))
	}
	if m := checkEvidence(t, s.Evidence[0], f); m.Discard.Way != "clone" {
		t.Errorf("manifest %+v", m)
	}
}
