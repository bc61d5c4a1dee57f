package e2e_test

import (
	"encoding/json"
	"net"
	"path/filepath"
	"time"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/pgctl/guard"
)

// watched is a node's guard, which tells of every change from when it is watched on.
type watched struct {
	*broken
	conn  net.Conn
	lines *json.Decoder
	first guard.Status
}

func (b *broken) watchGuard(n *lab.Node) *watched {
	b.Helper()
	c, err := net.Dial("unix", filepath.Join(n.Data(), "guard", "guard.sock"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = c.Close() })
	w := &watched{broken: b, conn: c, lines: json.NewDecoder(c)}
	if _, err := c.Write([]byte(`{"cmd":"subscribe"}` + "\n")); err != nil {
		b.Fatal(err)
	}
	w.first = w.next()
	return w
}

func (w *watched) next() guard.Status {
	w.Helper()
	var line struct{ Status guard.Status }
	if err := w.conn.SetReadDeadline(time.Now().Add(limit)); err != nil {
		w.Fatal(err)
	}
	if err := w.lines.Decode(&line); err != nil {
		w.Fatalf("the guard says no more: %v\n%s", err, w.lab.Report())
	}
	return line.Status
}

// frozen returns the freeze that was not undone before the run was killed.
func (w *watched) frozen() guard.Status {
	w.Helper()
	last := w.first
	for s := w.next(); s.State == guard.StateRunning || s.State == guard.StateFrozen; s = w.next() {
		last = s
	}
	if last.State != guard.StateFrozen || last.Run != w.first.Run {
		w.Fatalf("run %d was killed without a freeze; before that it was %s, run %d\n%s", w.first.Run, last.State, last.Run, w.lab.Report())
	}
	return last
}

// withinTheLease: the survivor, of which nobody could hear any more at cut, stopped to write when its lease was over. No speed
// of the machine is in that. The last beat that anybody can have vouched for was sent before cut, so the lease ends its length
// after that at the latest; and a write that begins when Postgres is frozen is not acknowledged. A guard that got no CPU
// freezes after the end of the lease, but then it counts that as late. local is who wrote and waited for no copies, nil where
// nobody did.
func (w *watched) withinTheLease(before lab.State, cut time.Duration, local *lone) {
	w.Helper()
	after, err := time.ParseDuration(w.lab.Failover)
	if err != nil {
		w.Fatal(err)
	}
	f := w.frozen()
	if f.Verdict != guard.VerdictServe || f.Epoch != before.Epoch {
		w.Errorf("frozen under the verdict %s of epoch %d, not for the end of the lease of epoch %d", f.Verdict, f.Epoch, before.Epoch)
	}
	end := f.Deadline + config.TimingOf(after).Margin
	if length := after * 4 / 5; end-cut > length {
		w.Errorf("the lease, which is %s long, ended %s after nobody could vouch any more", length, end-cut)
	}
	w.Logf("the lease ended %s after nobody could vouch any more, Postgres was frozen %s before its end", end-cut, end-f.Since)
	if local == nil {
		return
	}
	w.await("the session has ended", func() bool { return local.failed() != nil })
	stop, what := end, "the lease had ended, and the guard did not count itself late"
	if f.FenceLate > w.first.FenceLate {
		stop, what = f.Since, "Postgres was frozen"
	}
	last := local.lastBegan()
	if last > stop {
		w.Errorf("a write was acknowledged that began %s after %s\n%s", last-stop, what, w.lab.Report())
	}
	w.Logf("the last write that was acknowledged began %s after the cut, %s before the end of the lease", last-cut, end-last)
}
