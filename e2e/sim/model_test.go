package sim

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// The model of PostgreSQL is worth only as much as it does what the real one was seen to do. Each test is one of the
// findings that the product stands on.

// pair is a primary and a standby that streams from it, with no daemons and no clients.
func pair(t *testing.T, rule pgctl.Sync) (w *World, p, s *host) {
	t.Helper()
	w = &World{rng: rand.New(rand.NewPCG(1, 2)), opts: Options{shape: shape{data: 2, failoverAfter: time.Second}}}
	w.build()
	w.queue = queue{} // nobody starts, nobody writes
	w.check.newest.Primary = w.hosts[0].id
	p, s = w.hosts[0], w.hosts[1]
	if err := p.data.init(); err != nil {
		t.Fatal(err)
	}
	p.data.signal, p.data.live.Sync = false, rule
	p.server.fork(1, pgctl.Upstream{})
	w.run(time.Second)
	s.data.exists, s.data.sysid, s.data.signal = true, 7, true
	s.data.log, s.data.flushed = p.data.log, p.data.flushed
	s.server.fork(1, pgctl.Upstream{Name: p.name, Epoch: 1})
	w.run(2 * time.Second)
	if s.server.receiver == nil || p.server.senders[s.index] == nil {
		t.Fatal("the standby does not stream")
	}
	return w, p, s
}

// commit asks for one and lets time pass.
func commit(w *World, h *host) *op {
	o := &op{issued: w.now}
	h.server.execute(o)
	w.run(w.now + 300*time.Millisecond)
	return o
}

func TestACommitWaitsForItsCopies(t *testing.T) {
	w, p, s := pair(t, pgctl.Sync{K: 1, Names: []string{"n2"}})
	if o := commit(w, p); o.result != ok || !s.data.log.upTo(s.data.flushed).holds(o.b, o.lsn) {
		t.Errorf("with a standby that streams: %+v, there to %s", o, s.data.flushed)
	}
	w.block([][2]int{{p.index, s.index}})
	if o := commit(w, p); o.result != pending {
		t.Errorf("acknowledged although nothing reaches the standby: %+v", o)
	}
}

// K3: a reload does not end the walreceiver of a standby that replays late, and it goes on acknowledging.
func TestALaggingWalreceiverOutlivesAReload(t *testing.T) {
	w, p, s := pair(t, pgctl.Sync{K: 1, Names: []string{"n2"}})
	s.server.lag = time.Minute
	commit(w, p)
	s.data.cutByReloadOnly(func(pgctl.Position, error) {})
	if o := commit(w, p); o.result != ok {
		t.Errorf("a lagging walreceiver stopped acknowledging after a reload: %+v", o)
	}
	s.server.endReceiver()
	if o := commit(w, p); o.result != pending {
		t.Errorf("acknowledged without a walreceiver: %+v", o)
	}
}

// K4: after a restart the received position is unknown and what is replayed is short of what was acknowledged.
func TestARestartForgetsWhatWasReceived(t *testing.T) {
	w, p, s := pair(t, pgctl.Sync{K: 1, Names: []string{"n2"}})
	o := commit(w, p)
	s.server.lag = time.Hour
	s.server.die()
	s.server.fork(2, pgctl.Upstream{})
	w.run(w.now + time.Second)
	if s.server.received != 0 || s.server.replay >= o.lsn {
		t.Errorf("received %s, replayed %s of %s", s.server.received, s.server.replay, o.lsn)
	}
	if at := s.data.position(); at.LSN < o.lsn {
		t.Errorf("the scan finds %s, acknowledged is %s", at.LSN, o.lsn)
	}
}

// K5: with no rule left everybody who waits is told success.
func TestRelaxingTheRuleAcknowledgesWhoWaits(t *testing.T) {
	w, p, s := pair(t, pgctl.Sync{K: 1, Names: []string{"n2"}})
	w.block([][2]int{{p.index, s.index}})
	o := commit(w, p)
	p.data.live.Sync = pgctl.Sync{}
	p.server.reload()
	w.run(w.now + time.Second)
	if o.result != ok {
		t.Errorf("it waits still: %+v", o)
	}
}

// K6: a commit that nobody acknowledged is there after a crash, and can be read at once.
func TestACrashShowsWhatWasNotAcknowledged(t *testing.T) {
	w, p, s := pair(t, pgctl.Sync{K: 1, Names: []string{"n2"}})
	w.block([][2]int{{p.index, s.index}})
	o := commit(w, p)
	p.server.die()
	p.data.signal = false
	p.server.fork(2, pgctl.Upstream{})
	w.run(w.now + time.Second)
	if o.result != unknown || p.server.phase != primary || p.server.opened < o.lsn {
		t.Errorf("outcome %d; open to %s, committed to %s", o.result, p.server.opened, o.lsn)
	}
}

// A loss of power takes what was not flushed; a walsender never sent that.
func TestALossOfPowerTakesWhatWasNotFlushed(t *testing.T) {
	w, p, s := pair(t, pgctl.Sync{})
	p.disk.hangs = w.now + time.Minute
	o := &op{issued: w.now}
	p.server.execute(o)
	w.run(w.now + 100*time.Millisecond)
	p.powerOff()
	if p.data.log.holds(o.b, o.lsn) || s.data.log.holds(o.b, o.lsn) {
		t.Error("a commit that was never flushed is there")
	}
}

// K9: with standby.signal in place a server comes up read-only.
func TestTheSignalKeepsAServerReadOnly(t *testing.T) {
	w, p, _ := pair(t, pgctl.Sync{})
	p.server.die()
	p.data.signal = true
	p.server.fork(2, pgctl.Upstream{})
	w.run(w.now + time.Second)
	if p.server.phase != standby {
		t.Errorf("phase %d", p.server.phase)
	}
}

// A standby whose log says that the primary runs with more stands still: it receives and acknowledges, and can't be promoted. Started
// with less than its log needs it ends at once.
func TestALogNeedsWhatItsPrimaryRanWith(t *testing.T) {
	w, p, s := pair(t, pgctl.Sync{K: 1, Names: []string{"n2"}})
	p.server.die()
	p.data.signal, p.data.hot = false, pg.HotStandby{200, 8, 0, 64}
	p.server.fork(2, pgctl.Upstream{})
	w.run(w.now + 2*time.Second)
	o := commit(w, p)
	if o.result != ok || !s.server.stuck || s.server.replay >= o.lsn || s.data.ctl[0] != 200 {
		t.Errorf("outcome %d, stuck %t, replayed %s of %s, control %v", o.result, s.server.stuck, s.server.replay, o.lsn, s.data.ctl)
	}
	if s.server.replayTo(s.data.log.lsn); !s.server.stuck {
		t.Error("it went on by itself")
	}
	s.server.die()
	s.server.fork(2, pgctl.Upstream{})
	w.run(w.now + time.Second)
	if s.server.phase != down || s.keeper.view.WaitStatus == 0 {
		t.Errorf("started with less it is in phase %d, status %d", s.server.phase, s.keeper.view.WaitStatus)
	}
	s.data.hot, _ = pgctl.ToReplay(s.data.hot, s.data.ctl, nil) // as each start does
	s.server.fork(3, pgctl.Upstream{Name: p.name, Epoch: 1})
	w.run(w.now + time.Second)
	if o := commit(w, p); s.server.stuck || s.server.replay < o.lsn {
		t.Errorf("with as much it replayed %s of %s", s.server.replay, o.lsn)
	}
}

func TestLogsAreEndsOfBranches(t *testing.T) {
	one := &branch{tli: 1, end: 100}
	two := newBranch(2, place{one, 50}, nil)
	two.end = 90
	three := newBranch(3, place{two, 70}, nil)
	at := place{three, 80}
	for _, c := range []struct {
		b    *branch
		lsn  pg.LSN
		want bool
	}{{one, 50, true}, {one, 51, false}, {two, 70, true}, {two, 71, false}, {three, 80, true}, {three, 81, false}} {
		if got := at.holds(c.b, c.lsn); got != c.want {
			t.Errorf("holds %s of timeline %d: %t", c.lsn, c.b.tli, got)
		}
	}
	if got := common(at, place{one, 100}); got != (place{one, 50}) {
		t.Errorf("common with the old timeline: %+v", got)
	}
	want := pg.History{{Timeline: 1, End: 50}, {Timeline: 2, End: 70}}
	if !slices.Equal(three.history, want) {
		t.Errorf("history %v", three.history)
	}
}

// A seed that fails is shrunk to faults that still make it fail, and the command that is printed says which.
func TestShrinkKeepsWhatItTakes(t *testing.T) {
	o := Options{Seed: 13, Without: MutPosition}
	for ; ; o.Seed++ {
		out := Run(o)
		if out.Violation == nil {
			continue
		}
		kept, small := Shrink(o, out)
		if small.Violation == nil || len(kept) >= len(out.Plan) {
			t.Fatalf("seed %d: %d of %d faults left, violation %v", o.Seed, len(kept), len(out.Plan), small.Violation)
		}
		var log bytes.Buffer
		o.Keep, o.Log = kept, &log
		again := Run(o)
		if again.Violation == nil || again.Violation.Error() != small.Violation.Error() || !strings.Contains(log.String(), "VIOLATION") {
			t.Errorf("the shrunk seed tells another story: %v, not %v", again.Violation, small.Violation)
		}
		if cmd := Replay(o); !strings.Contains(cmd, "-sim.keep") || !strings.Contains(cmd, "-sim.without position") {
			t.Errorf("the command is %q", cmd)
		}
		return
	}
}
