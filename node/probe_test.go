package node

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// TestComplete: what the agent's loop can't say of itself is in the report all the same.
func TestComplete(t *testing.T) {
	const limit = 1500 * time.Millisecond
	base := failover.Report{Epoch: 7, Serving: 7, Healthy: true, Restartable: true, Streaming: []failover.StreamingMember{{Node: "n2"}}}
	if got := complete(base, nil, nil, false, limit); !got.Healthy || got.Problem != "" || got.Serving != 7 {
		t.Errorf("nothing is wrong and the report says %+v", got)
	}
	if got := complete(base, nil, nil, true, limit); got.Healthy || !strings.Contains(got.Problem, "1.5s") || got.Sick != "" {
		t.Errorf("the agent hangs and the report says %+v", got)
	}
	sick := &pgctl.Sickness{Probe: pgctl.ProbeData, Full: true}
	if got := complete(base, sick, nil, false, limit); got.Healthy || got.Sick == "" || got.Problem != got.Sick || got.Restartable || got.Serving != 7 {
		t.Errorf("the disk is full and the report says %+v", got)
	}
	if got := complete(base, &pgctl.Sickness{Probe: pgctl.ProbeConnect}, nil, false, limit); !got.Restartable {
		t.Error("a server that hung may be started again")
	}
	if got := complete(base, sick, &fsm.Release{Epoch: 7}, true, limit); got.Released == nil || got.Released.Epoch != 7 || got.Serving != 0 || got.Streaming != nil {
		t.Errorf("released without the agent and the report says %+v", got)
	}
	cut := base
	cut.Unleased = true
	if got := complete(cut, nil, &fsm.Release{Epoch: 7}, false, limit); got.Serving != 0 || got.Unleased {
		t.Errorf("released in a pause and the report says %+v", got)
	}
	newer := base
	newer.Epoch, newer.Serving, newer.Released = 9, 9, &fsm.Release{Epoch: 8, Timeline: 3}
	if got := complete(newer, nil, &fsm.Release{Epoch: 7}, false, limit); got.Released.Epoch != 8 || got.Serving != 9 {
		t.Errorf("an old release changed the report to %+v", got)
	}
}

// stubRecord is a guard's record that remembers what it was told.
type stubRecord struct {
	view guard.View
	told []guard.Verdict
}

func (r *stubRecord) Record() guard.View { return r.view }
func (r *stubRecord) Set(v guard.Verdict, _ uint64, _ time.Duration) bool {
	if r.view.Verdict == guard.VerdictStop {
		return false // it is final
	}
	r.told = append(r.told, v)
	return true
}

// TestStopSick: an order ends what serves its epoch or an earlier one, also what is being killed already: a crash or an
// agent before this one began that, a disk that hangs keeps it from ending, and if the order were refused nobody would ever
// release the epoch. It ends nothing else; after it no lease of that epoch counts.
func TestStopSick(t *testing.T) {
	view := func(state guard.State, verdict guard.Verdict) guard.View {
		return guard.View{State: state, Verdict: verdict, Epoch: 7, Run: 3}
	}
	serving := view(guard.StateRunning, guard.VerdictServe)
	for _, c := range []struct {
		what  string
		view  guard.View
		epoch fsm.Epoch
		stops bool
		told  bool
	}{
		{"its epoch", serving, 7, true, true},
		{"an epoch later than it was started for", serving, 8, true, true},
		{"a late order", serving, 6, false, false},
		{"a standby", view(guard.StateRunning, guard.VerdictStandby), 7, false, false},
		{"being killed already", view(guard.StateKilling, guard.VerdictStop), 7, true, false},
		{"told to stop a moment ago", view(guard.StateRunning, guard.VerdictStop), 7, true, false},
		{"being killed since an earlier epoch", view(guard.StateKilling, guard.VerdictStop), 9, true, false},
		{"being killed in a later epoch", view(guard.StateKilling, guard.VerdictStop), 6, false, false},
		{"being killed because its postmaster ended", view(guard.StateKilling, guard.VerdictServe), 7, true, true},
		{"being killed before it was promoted", view(guard.StateKilling, guard.VerdictStandby), 7, true, true},
		{"gone", view(guard.StateEmpty, guard.VerdictStop), 7, false, false},
	} {
		c.view.Tick = guard.Now() + time.Hour // it ticks
		g := &stubRecord{view: c.view}
		f := &fence{guard: g, self: "n1", state: func() fsm.State { return fsm.State{} }}
		f.Lease(c.epoch, guard.Now()+time.Minute)
		g.told = nil
		if got := f.stop(c.epoch); got != c.stops {
			t.Errorf("%s: stopped %v, want %v", c.what, got, c.stops)
		}
		if got := len(g.told) == 1 && g.told[0] == guard.VerdictStop; got != c.told {
			t.Errorf("%s: the guard was told %v", c.what, g.told)
		}
		f.Lease(c.epoch, guard.Now()+2*time.Minute)
		if live := f.live(c.epoch, guard.Now()); live == c.stops {
			t.Errorf("%s: the lease of epoch %d is live: %v", c.what, c.epoch, live)
		}
		f.Lease(c.epoch+1, guard.Now()+time.Minute)
		if c.stops && !f.live(c.epoch+1, guard.Now()) {
			t.Errorf("%s: the next epoch's lease does not count", c.what)
		}
	}
}

// TestUndying: what is being killed and does not end keeps no epoch, whoever began to kill it: an agent that was started
// since finds it so.
func TestUndying(t *testing.T) {
	const failoverAfter, since = time.Second, 5 * time.Second
	for _, c := range []struct {
		what   string
		change func(*fsm.State, *guard.View)
		after  time.Duration
		want   bool
	}{
		{"for long", func(*fsm.State, *guard.View) {}, failoverAfter, true},
		{"since a moment ago", func(*fsm.State, *guard.View) {}, failoverAfter - 1, false},
		{"since an earlier epoch", func(_ *fsm.State, v *guard.View) { v.Epoch = 6 }, failoverAfter, true},
		{"because its postmaster ended", func(_ *fsm.State, v *guard.View) { v.Verdict = guard.VerdictServe }, failoverAfter, true},
		{"of a later epoch than is applied here", func(_ *fsm.State, v *guard.View) { v.Epoch = 8 }, failoverAfter, false},
		{"frozen only", func(_ *fsm.State, v *guard.View) { v.State = guard.StateFrozen }, time.Minute, false},
		{"gone", func(_ *fsm.State, v *guard.View) { v.State = guard.StateEmpty }, time.Minute, false},
		{"on a standby", func(s *fsm.State, _ *guard.View) { s.Primary = "n2" }, time.Minute, false},
		{"while paused", func(s *fsm.State, _ *guard.View) { s.Paused = true }, time.Minute, false},
		{"before there is a cluster", func(s *fsm.State, v *guard.View) { s.Epoch, s.Primary, v.Epoch = 0, "", 0 }, time.Minute, false},
	} {
		s := fsm.State{Epoch: 7, Primary: "n1"}
		v := guard.View{State: guard.StateKilling, Verdict: guard.VerdictStop, Epoch: 7, Since: since}
		c.change(&s, &v)
		if got := undying(s, "n1", v, since+c.after, failoverAfter); got != c.want {
			t.Errorf("being killed %s: %v, want %v", c.what, got, c.want)
		}
	}
}
