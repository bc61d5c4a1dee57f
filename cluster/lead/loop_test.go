package lead

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// stage is everything around a Loop, played by the test: three nodes, a is primary, the loop is on b.
type stage struct {
	start time.Time
	lines lineBuffer

	mu          sync.Mutex
	state       fsm.State
	lastBeat    map[fsm.NodeID]time.Duration
	down        map[fsm.NodeID]bool // does not answer
	vouched     time.Duration       // age of everybody's last vouch when asked
	left        time.Duration       // of it, when sealed
	barrierErr  error
	submitErr   error
	reportErr   error // of RecordFailover
	idle        bool  // the primary does not serve
	submitted   []fsm.Command
	by          []string
	submitTimes []time.Duration
	asked       map[fsm.NodeID]int
	sealTimes   map[fsm.NodeID][]time.Duration
	transfers   []time.Duration
	stopped     []call
	sick        string // what the primary says of itself
	ahead       pg.LSN // how far its log goes beyond everybody else's
}

type lineBuffer struct {
	mu  sync.Mutex
	all strings.Builder
}

func (b *lineBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *lineBuffer) count(what string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.all.String(), what)
}

func newStage() *stage {
	st := &stage{start: time.Now(), lastBeat: map[fsm.NodeID]time.Duration{}, down: map[fsm.NodeID]bool{}, vouched: 2 * time.Second, asked: map[fsm.NodeID]int{}, sealTimes: map[fsm.NodeID][]time.Duration{}}
	ids := []fsm.NodeID{"a", "b", "c"}
	st.state = fsm.State{
		ClusterID: "x", Rev: 10, Epoch: 7, Primary: "a", SystemID: 1,
		Lineage:    []fsm.Lineage{{Epoch: 7, Node: "a", Timeline: 3, Promoted: true}},
		Electorate: fsm.Electorate{Voters: ids, Version: 1},
		Sync:       fsm.SyncRule{Members: ids, Copies: 2},
		Config:     fsm.Config{Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}},
		Members:    map[fsm.NodeID]fsm.Member{},
	}
	for _, id := range ids {
		st.state.Members[id] = fsm.Member{ID: id, Name: "n" + string(id), Role: fsm.RoleData}
	}
	return st
}

func (st *stage) now() time.Duration { return time.Since(st.start) + time.Hour }

func (st *stage) kill(id fsm.NodeID) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.down[id], st.lastBeat[id] = true, st.now()
}

// sightings are those of b: the living were heard just now, the dead when they died.
func (st *stage) sightings() map[fsm.NodeID]failover.Sighting {
	st.mu.Lock()
	defer st.mu.Unlock()
	out := map[fsm.NodeID]failover.Sighting{}
	for id := range st.state.Members {
		r := failover.Report{Node: id, Epoch: st.state.Epoch, Rev: st.state.Rev, Run: failover.RunRunning, Healthy: true, Timeline: 3, Flush: 100}
		if id == st.state.Primary {
			if !st.idle {
				r.Serving = st.state.Epoch
			}
			r.Streaming = []failover.StreamingMember{{Node: "b", Flush: 100}, {Node: "c", Flush: 100}}
			r.Sick, r.Healthy = st.sick, st.sick == ""
			r.Flush += st.ahead
		} else {
			r.Upstream = st.state.Primary
		}
		var age time.Duration
		if st.down[id] {
			age = st.now() - st.lastBeat[id]
		}
		for other := range st.state.Members {
			if other != id && st.down[other] {
				r.Sightings = append(r.Sightings, failover.Age{Node: other, MS: (st.now() - st.lastBeat[other]).Milliseconds()})
			}
		}
		out[id] = failover.Sighting{Age: age, Report: r}
	}
	return out
}

func (st *stage) State() fsm.State {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.state
}

func (st *stage) Barrier(context.Context) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.barrierErr
}

func (st *stage) Submit(_ context.Context, c fsm.Command, ifRev uint64, by string) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.submitted, st.by, st.submitTimes = append(st.submitted, c), append(st.by, by), append(st.submitTimes, st.now())
	if st.submitErr != nil {
		return st.submitErr
	}
	if r, ok := c.(fsm.RecordFailover); ok {
		if st.reportErr == nil {
			st.state.Failovers = append(slices.Clone(st.state.Failovers), r.Failover)
		}
		return st.reportErr
	}
	if ifRev != st.state.Rev {
		return fsm.ErrStaleRev
	}
	if s, ok := c.(fsm.SetSync); ok {
		st.state.Sync = s.Rule
		st.state.Rev++
	}
	if a, ok := c.(fsm.Appoint); ok {
		st.state.Epoch, st.state.Primary = a.IfEpoch+1, a.Node
		st.state.Rev++
		st.state.Lineage = append(slices.Clone(st.state.Lineage), fsm.Lineage{Epoch: a.IfEpoch + 1, Node: a.Node, Timeline: a.Timeline})
		st.state.Events = append(slices.Clone(st.state.Events), fsm.Event{Epoch: st.state.Epoch, By: by})
	}
	return nil
}

func (st *stage) Servers() map[fsm.NodeID]failover.Standing { return nil }

func (st *stage) Reconfigure(context.Context, failover.Reconfigure) error {
	return errors.New("not asked for here")
}

func (st *stage) Transfer(context.Context, fsm.NodeID) error {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.transfers = append(st.transfers, st.now())
	return errors.New("refused")
}

func (st *stage) answers(ctx context.Context, id fsm.NodeID) error {
	st.mu.Lock()
	down := st.down[id]
	st.mu.Unlock()
	if !down {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (st *stage) Ask(ctx context.Context, to fsm.NodeID, _ fsm.Epoch) (lease.AskReply, error) {
	st.mu.Lock()
	st.asked[to]++
	r := lease.AskReply{VouchedAgo: st.vouched}
	st.mu.Unlock()
	return r, st.answers(ctx, to)
}

func (st *stage) Seal(ctx context.Context, to fsm.NodeID, e fsm.Epoch) (lease.SealReply, error) {
	st.mu.Lock()
	st.sealTimes[to] = append(st.sealTimes[to], st.now())
	r := lease.SealReply{Epoch: e, Left: st.left}
	st.mu.Unlock()
	return r, st.answers(ctx, to)
}

func (st *stage) Detach(ctx context.Context, to fsm.NodeID, e fsm.Epoch) (fsm.Position, error) {
	return fsm.Position{Node: to, Detached: e, Timeline: 3, LSN: pg.LSN(100)}, st.answers(ctx, to)
}

func (st *stage) Stop(ctx context.Context, to fsm.NodeID, e fsm.Epoch) error {
	st.mu.Lock()
	st.stopped = append(st.stopped, call{"stop", to, e})
	st.mu.Unlock()
	return st.answers(ctx, to)
}

// play runs a Loop on b while story goes on.
func play(t *testing.T, story func(t *testing.T, st *stage, l *Loop)) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage()
		l := New(Config{
			Self: "b", First: func() fsm.NodeID { return "a" }, Boot: st.now, Sightings: st.sightings,
			Beat:   func(d time.Duration) time.Duration { return d / 8 },
			Logger: hclog.New(&hclog.LoggerOptions{Output: &st.lines, Level: hclog.Info}),
		}, st, st)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		story(t, st, l)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func (st *stage) locked(read func()) {
	st.mu.Lock()
	defer st.mu.Unlock()
	read()
}

func TestADeadPrimaryIsReplacedInOneGo(t *testing.T) {
	play(t, func(t *testing.T, st *stage, l *Loop) {
		st.left = 30 * ms
		time.Sleep(time.Second)
		st.kill("a")
		died := st.now()
		time.Sleep(1200 * ms)
		synctest.Wait()
		st.locked(func() {
			if len(st.submitted) == 0 {
				t.Fatal("nobody was appointed")
			}
			a, ok := st.submitted[0].(fsm.Appoint)
			if !ok || a.IfEpoch != 7 || a.Node != "c" || st.by[0] != "best-standby" {
				t.Errorf("submitted %+v by %s, want c by best-standby: b leads", st.submitted[0], st.by[0])
			}
			for _, s := range a.Evidence.Seals {
				if s.WaitedMS < s.LeftMS {
					t.Errorf("evidence waited %d of %d ms", s.WaitedMS, s.LeftMS)
				}
			}
			if took := st.submitTimes[0] - died; took < time.Second+30*ms || took > 1100*ms {
				t.Errorf("appointed %s after the death", took)
			}
			if st.asked["b"] == 0 || st.asked["c"] == 0 {
				t.Errorf("asked %v before sealing, want b and c", st.asked)
			}
		})
		var names []string
		for _, p := range l.Timeline() {
			names = append(names, p.Name)
			if p.Epoch != 7 || p.SinceBeat < time.Second || p.SinceBeat > 1100*ms {
				t.Errorf("phase %+v", p)
			}
		}
		// Seal and Detach are sent together; either answer may come first.
		got, after, _ := strings.Cut(strings.Join(names, " "), " appointed")
		if got != "silent asked sealed positions" && got != "silent asked positions sealed" || after != " serving streaming" {
			t.Errorf("timeline %q", names)
		}
	})
}

func TestANodeThatDoesNotAnswerIsAskedEveryQuarterSecond(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		st.kill("a")
		time.Sleep(990 * ms)
		st.kill("c") // its last report still counts for a moment
		time.Sleep(350 * ms)
		synctest.Wait()
		st.locked(func() {
			if n := st.asked["c"]; n != 2 {
				t.Errorf("c was asked %d times in 350 ms, want 2", n)
			}
			if len(st.sealTimes) > 0 {
				t.Errorf("sealed %v though no majority can have answered", st.sealTimes)
			}
		})
	})
}

func TestARecentVouchStopsTheSeal(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		st.vouched = 100 * ms
		st.kill("a")
		time.Sleep(1800 * ms)
		synctest.Wait()
		st.locked(func() {
			if st.asked["c"] == 0 {
				t.Error("nobody was asked")
			}
			if len(st.sealTimes) > 0 || len(st.submitted) > 0 {
				t.Errorf("sealed %v, submitted %v though everybody vouched a moment ago", st.sealTimes, st.submitted)
			}
		})
	})
}

func TestNothingBeforeTheBarrier(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage()
		st.barrierErr = errors.New("leadership lost")
		st.kill("a")
		time.Sleep(2 * time.Second)
		l := New(Config{Self: "b", First: func() fsm.NodeID { return "a" }, Boot: st.now, Sightings: st.sightings, Beat: func(d time.Duration) time.Duration { return d / 8 }, Logger: hclog.NewNullLogger()}, st, st)
		if err := l.Run(t.Context()); !errors.Is(err, st.barrierErr) {
			t.Errorf("Run = %v", err)
		}
		if v, d := l.Explain(); v.Leading || d.Rule == "" {
			t.Errorf("an observer's view: leading %v, rule %q", v.Leading, d.Rule)
		}
		if len(st.asked)+len(st.submitted) > 0 {
			t.Errorf("asked %v, submitted %v", st.asked, st.submitted)
		}
	})
}

func TestARefusedProposalDoesNotSpin(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		st.mu.Lock()
		st.submitErr = fsm.ErrEvidence
		st.mu.Unlock()
		st.kill("a")
		time.Sleep(2050 * ms)
		synctest.Wait()
		st.locked(func() {
			if n := len(st.submitted); n < 5 || n > 11 {
				t.Errorf("%d proposals within the second after the silence, want about ten", n)
			}
		})
		if n := st.lines.count("rule=best-standby verdict=acting"); n != 1 {
			t.Errorf("%d lines for one unchanged decision", n)
		}
	})
}

// TestANewLeaderKnowsWhoKeptUp: the standby's host was the leader's, too. Its walsender looks for many seconds as if it
// streamed; who comes to lead has seen since when it does not get on.
func TestANewLeaderKnowsWhoKeptUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st := newStage()
		b := st.state.Members["b"]
		b.Role = fsm.RoleWitness
		st.state.Members["b"] = b
		st.state.Sync.Members = []fsm.NodeID{"a", "c"}
		l := New(Config{
			Self: "b", First: func() fsm.NodeID { return "a" }, Boot: st.now, Sightings: st.sightings,
			Beat:   func(d time.Duration) time.Duration { return d / 8 },
			Logger: hclog.NewNullLogger(),
		}, st, st)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { l.Attend(ctx) })
		time.Sleep(3 * time.Second)
		st.kill("c")
		st.mu.Lock()
		st.ahead = 100
		st.mu.Unlock()
		time.Sleep(1500 * time.Millisecond)
		elected := st.now()
		running.Go(func() {
			if err := l.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		time.Sleep(100 * time.Millisecond)
		st.locked(func() {
			if len(st.submitted) == 0 {
				t.Error("nothing was proposed by the new leader")
			} else if c, ok := st.submitted[0].(fsm.SetSync); !ok || c.Rule.Copies != 1 || st.submitTimes[0] != elected {
				t.Errorf("%s after the election the leader proposed %#v", st.submitTimes[0]-elected, st.submitted[0])
			}
		})
		cancel()
		running.Wait()
	})
}

func TestHandOffIsPaced(t *testing.T) {
	play(t, func(t *testing.T, st *stage, _ *Loop) {
		st.mu.Lock()
		st.state.Primary, st.state.Lineage = "b", []fsm.Lineage{{Epoch: 7, Node: "b", Timeline: 3, Promoted: true}}
		st.mu.Unlock()
		time.Sleep(12 * time.Second)
		synctest.Wait()
		st.locked(func() {
			if len(st.transfers) != 3 {
				t.Errorf("transfers at %v, want one every 5s", st.transfers)
			}
		})
	})
}
