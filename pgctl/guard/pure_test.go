package guard

import (
	"testing"
	"time"
)

func TestDecide(t *testing.T) {
	const s = time.Second
	base := facts{now: 100 * s, since: 90 * s, killAfter: s}
	for _, c := range []struct {
		name string
		with func(*facts)
		act  action
		next time.Duration
	}{
		{"standby runs for ever", func(f *facts) { f.state, f.verdict = StateRunning, VerdictStandby }, actNothing, 0},
		{"standby frozen is thawed", func(f *facts) { f.state, f.verdict = StateFrozen, VerdictStandby }, actThaw, 0},
		{"serve within the lease runs until its end", func(f *facts) {
			f.state, f.verdict, f.leaseEnd = StateRunning, VerdictServe, 101*s
		}, actNothing, 101 * s},
		{"serve at the very end is frozen", func(f *facts) {
			f.state, f.verdict, f.leaseEnd = StateRunning, VerdictServe, 100*s
		}, actFreeze, 100 * s},
		{"serve renewed is thawed even when the kill is due", func(f *facts) {
			f.state, f.verdict, f.leaseEnd = StateFrozen, VerdictServe, 101*s
		}, actThaw, 101 * s},
		{"frozen waits for kill_after", func(f *facts) {
			f.state, f.verdict, f.leaseEnd, f.since = StateFrozen, VerdictServe, 99*s, 99500*time.Millisecond
		}, actNothing, 100500 * time.Millisecond},
		{"frozen for kill_after is killed", func(f *facts) {
			f.state, f.verdict, f.leaseEnd, f.since = StateFrozen, VerdictServe, 98*s, 99*s
		}, actKill, 0},
		{"stop kills at once", func(f *facts) {
			f.state, f.verdict, f.leaseEnd = StateRunning, VerdictStop, 200*s
		}, actKill, 0},
		{"stop kills what is frozen", func(f *facts) { f.state, f.verdict = StateFrozen, VerdictStop }, actKill, 0},
		{"a postmaster that ended takes its backends with it", func(f *facts) {
			f.state, f.verdict, f.exited = StateRunning, VerdictStandby, true
		}, actKill, 0},
		{"killing is final, whatever the lease", func(f *facts) {
			f.state, f.verdict, f.leaseEnd = StateKilling, VerdictServe, 200*s
		}, actNothing, 0},
		{"nothing to do without a run", func(f *facts) { f.state, f.verdict = StateNone, VerdictStop }, actNothing, 0},
		{"empty stays empty", func(f *facts) { f.state, f.exited = StateEmpty, true }, actNothing, 0},
		{"unleased with a heartbeat runs until it is stale", func(f *facts) {
			f.state, f.verdict, f.beat = StateRunning, VerdictUnleased, 96*s
		}, actNothing, 101 * s},
		{"unleased without one is frozen", func(f *facts) {
			f.state, f.verdict, f.beat = StateRunning, VerdictUnleased, 95*s
		}, actFreeze, 100 * s},
		{"unleased with the marker outlives the agent", func(f *facts) {
			f.state, f.verdict, f.paused = StateRunning, VerdictUnleased, true
		}, actNothing, 5 * s},
		{"unleased thaws when the agent is back", func(f *facts) {
			f.state, f.verdict, f.beat = StateFrozen, VerdictUnleased, 100*s
		}, actThaw, 105 * s},
		{"unleased by a heartbeat from the far future is frozen", func(f *facts) {
			f.state, f.verdict, f.beat = StateRunning, VerdictUnleased, 106*s
		}, actFreeze, 0},
		{"unleased by one after the guard's look at the clock runs", func(f *facts) {
			f.state, f.verdict, f.beat = StateRunning, VerdictUnleased, 100*s+1
		}, actNothing, 105*s + 1},
		{"an unknown verdict is an ended lease", func(f *facts) {
			f.state, f.verdict, f.leaseEnd = StateRunning, 99, 200*s
		}, actFreeze, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := base
			c.with(&f)
			if act, next := decide(f); act != c.act || next != c.next {
				t.Errorf("decide = %d at %s, want %d at %s", act, next, c.act, c.next)
			}
		})
	}
}

func TestAccepts(t *testing.T) {
	serve := order{run: 2, verdict: VerdictServe, epoch: 7, deadline: 100}
	stopped := order{run: 2, verdict: VerdictStop, epoch: 7}
	for _, c := range []struct {
		name       string
		last, next order
		want       bool
	}{
		{"a later deadline extends", serve, order{2, VerdictServe, 7, 101}, true},
		{"an earlier deadline does not shorten", serve, order{2, VerdictServe, 7, 99}, false},
		{"the same again is nothing", serve, order{2, VerdictServe, 7, 100}, false},
		{"a new epoch may have any deadline", serve, order{2, VerdictServe, 8, 50}, true},
		{"an old epoch is refused", serve, order{2, VerdictServe, 6, 200}, false},
		{"an old epoch may still stop", serve, order{2, VerdictStop, 6, 0}, true},
		{"standby may follow serve", serve, order{2, VerdictStandby, 7, 0}, true},
		{"unleased may follow serve", serve, order{2, VerdictUnleased, 7, 0}, true},
		{"stop is final", stopped, order{2, VerdictServe, 9, 900}, false},
		{"the next run begins anew", stopped, order{3, VerdictServe, 7, 100}, true},
		{"an old run is refused", serve, order{1, VerdictServe, 9, 900}, false},
		{"none is not an order", serve, order{3, VerdictNone, 9, 0}, false},
		{"the first order of all", order{}, order{1, VerdictServe, 1, 1}, true},
	} {
		if got := c.last.accepts(c.next); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func testRecord(t *testing.T) *record {
	t.Helper()
	rec, _, err := newRecord(identity{pid: 42, start: 7, boot: [2]uint64{1, 2}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rec.close() })
	return rec
}

func TestRecordRoundTrip(t *testing.T) {
	rec := testRecord(t)
	if id, err := rec.check(); err != nil || id != (identity{pid: 42, start: 7, boot: [2]uint64{1, 2}}) {
		t.Fatalf("check = %+v, %v", id, err)
	}
	o := order{run: 1, verdict: VerdictServe, epoch: 3, deadline: 4}
	rec.setOrder(o)
	if got, ok := rec.order(); !ok || got != o {
		t.Errorf("order = %+v %v", got, ok)
	}
	v := View{Run: 1, State: StateFrozen, PID: 2, Since: 3, Tick: 4, Verdict: VerdictServe, Epoch: 5, Deadline: 6,
		WorstLateness: 7, FenceLate: 8, Exited: true, WaitStatus: 9, GuardPID: 42}
	rec.setView(v)
	rec.setTick(4)
	if got, ok := rec.view(); !ok || got != v {
		t.Errorf("view = %+v %v", got, ok)
	}
}

// TestRecordLayout holds the frozen places of the words: an agent of another
// release reads them.
func TestRecordLayout(t *testing.T) {
	for word, want := range map[int]int{
		wordMagic: 0, wordVersion: 1, wordGuardPID: 2, wordGuardStart: 3, wordBootHigh: 4, wordBootLow: 5,
		wordAgentSeq: 16, wordAgentRun: 17, wordAgentVerdict: 18, wordAgentEpoch: 19, wordAgentDeadline: 20, wordAgentBeat: 21,
		wordSeq: 32, wordRun: 33, wordState: 34, wordPID: 35, wordSince: 36, wordVerdict: 37, wordEpoch: 38, wordDeadline: 39,
		wordLateness: 40, wordFenceLate: 41, wordExited: 42, wordExitStatus: 43, wordTick: 44,
	} {
		if word != want {
			t.Errorf("a word moved to %d from %d", word, want)
		}
	}
	if recordVersion != 1 {
		t.Error("a new version needs a new table here")
	}
}

func TestRecordOfADeadWriter(t *testing.T) {
	rec := testRecord(t)
	o := order{run: 1, verdict: VerdictServe, epoch: 3, deadline: 4}
	rec.setOrder(o)
	rec.word[wordAgentSeq].Add(1) // died in the middle of a write
	if _, ok := rec.order(); ok {
		t.Error("a torn order was read")
	}
	rec.setOrder(o)
	if got, ok := rec.order(); !ok || got != o {
		t.Errorf("the next writer didn't make it good: %+v %v", got, ok)
	}
}

func TestRecordNeverTorn(t *testing.T) {
	rec := testRecord(t)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := uint64(1); ; i++ {
			select {
			case <-stop:
				return
			default:
				rec.setOrder(order{run: i, verdict: Verdict(i), epoch: i, deadline: time.Duration(i)})
			}
		}
	}()
	for range 20000 {
		if o, ok := rec.order(); ok && (o.run != o.epoch || o.run != uint64(o.deadline)) {
			t.Errorf("torn order %+v", o)
			break
		}
	}
	close(stop)
	<-done
}

func TestParseStat(t *testing.T) {
	line := "12 (a) R) (x) S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 1"
	p, ok := parseStat(12, []byte(line))
	if want := (proc{pid: 12, ppid: 1, state: 'S', start: 98765}); !ok || p != want {
		t.Errorf("parseStat = %+v %v, want %+v", p, ok, want)
	}
	for _, bad := range []string{"", "12 (x", "12 (x) S 1"} {
		if _, ok := parseStat(12, []byte(bad)); ok {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestDescendants(t *testing.T) {
	all := []proc{{pid: 1}, {pid: 5, ppid: 4}, {pid: 2, ppid: 1}, {pid: 4, ppid: 2}, {pid: 3, ppid: 1}, {pid: 9, ppid: 9}}
	var pids []int
	for _, p := range descendants(all, 2) {
		pids = append(pids, p.pid)
	}
	if len(pids) != 2 || pids[0] != 4 || pids[1] != 5 {
		t.Errorf("below 2: %v, want 4 and 5", pids)
	}
}

func TestFindCgroup2(t *testing.T) {
	hybrid := "30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n40 30 0:37 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
	if got, err := findCgroup2(hybrid); err != nil || got != "/sys/fs/cgroup/unified" {
		t.Errorf("hybrid: %q %v", got, err)
	}
	if _, err := findCgroup2("31 30 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"); err == nil {
		t.Error("a machine without cgroup2 has a mount")
	}
	for _, bad := range []string{"/abs", "../up", ""} {
		if _, err := cgroupDir(bad, "postgres"); err == nil {
			t.Errorf("path %q was accepted", bad)
		}
	}
}

func TestPopulated(t *testing.T) {
	for events, want := range map[string]bool{"populated 0\nfrozen 1\n": false, "populated 1\nfrozen 0\n": true, "": true} {
		if got := populated([]byte(events)); got != want {
			t.Errorf("%q: %v", events, got)
		}
	}
}
