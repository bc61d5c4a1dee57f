package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// The agent's loop may hang with Postgres or with a disk, while beats and lease, which touch neither, go on. So what says
// that it hangs, and what ends a sick primary, must not be that loop.

// lookPatience is how old the agent's last look may be, in failover_afters: as long as a sickness takes to be one.
const lookPatience = 1.5

// watchHealth runs the probes and completes the report by what they find, until ctx ends.
func (n *Node) watchHealth(ctx context.Context) {
	go n.prober.Run(ctx)
	go n.postgres.ListenForCrash(ctx, n.poke)
	tick := time.NewTicker(n.timing.Beat)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			n.tell()
			n.endUndying()
		}
	}
}

// tell hands the newest report, completed by what is known beside the agent's look, to the beats. A change that others
// decide by goes out at once. Any goroutine may call it.
func (n *Node) tell() {
	n.telling.Lock()
	defer n.telling.Unlock()
	_, r, at := n.last.get()
	if at == 0 {
		return // The agent has not looked yet.
	}
	r = bounded(complete(r, n.prober.Sick(), n.blind.Load(), guard.Now()-at > n.lookLimit(), n.lookLimit()))
	before := n.told
	n.told = r
	n.cluster.SetReport(r)
	if changed(before, r) {
		n.cluster.Kick()
	}
}

func (n *Node) lookLimit() time.Duration {
	return time.Duration(lookPatience * float64(n.timing.FailoverAfter))
}

// complete adds to a report what its maker can't know: that he hangs, that Postgres or its disk is sick, and that the epoch
// was released without him.
func complete(r failover.Report, sick *pgctl.Sickness, released *fsm.Release, hangs bool, limit time.Duration) failover.Report {
	if hangs {
		r.Healthy = false
		r.Problem = fmt.Sprintf("the agent has not come back from Postgres or from its disk for more than %s", limit)
	}
	if sick != nil {
		r.Sick, r.Problem, r.Healthy, r.Restartable = sick.String(), sick.String(), false, r.Restartable && sick.Probe == pgctl.ProbeConnect
	}
	if released != nil && (r.Released == nil || r.Released.Epoch < released.Epoch) {
		r.Released = released
		if r.Serving <= released.Epoch {
			r.Serving, r.Unleased, r.Streaming = 0, false, nil
		}
	}
	return r
}

// The refusals of an order to stop.
var (
	errNotSick    = errors.New("nothing is wrong here any more")
	errNotServing = errors.New("nothing serves that epoch here")
)

// stopSick obeys the leader: Postgres, which serves epoch, or did until it was killed, is killed and the epoch released. The
// kill is in the guard's record when it returns; the rest goes on without the agent's loop, which may hang. Nothing is
// vouched for any more, so if all of that fails the others come to know it by silence.
func (n *Node) stopSick(epoch fsm.Epoch) error {
	if n.postgres == nil {
		return errNoPostgres
	}
	if n.stopping.Load() >= uint64(epoch) {
		return nil // It was heard before.
	}
	sick := n.prober.Sick()
	if sick == nil {
		return errNotSick
	}
	if !n.fence.stop(epoch) {
		return errNotServing
	}
	n.log.Error("killing a sick Postgres by the leader's order", "epoch", epoch, "sick", sick.String(), "failures", sick.Failures, "for", sick.For.Round(time.Millisecond).String())
	n.end(epoch)
	return nil
}

// end begins to release epoch, of which nothing serves any more, unless that was begun before.
func (n *Node) end(epoch fsm.Epoch) {
	if n.stopping.Swap(uint64(epoch)) < uint64(epoch) {
		go n.endSick(epoch)
	}
	n.poke()
}

// endUndying releases, without an order, the epoch of a Postgres that is being killed and can't end. The leader would order
// that only while standbys stream, and from processes that were killed none does; there is nothing left that still works
// either, which he would have to weigh.
func (n *Node) endUndying() {
	state, view := n.cluster.State(), n.guard.Record()
	if n.stopping.Load() >= uint64(state.Epoch) || n.records.ReleasedEpoch() >= state.Epoch ||
		!undying(state, n.cluster.Self(), view, guard.Now(), n.timing.FailoverAfter) || !n.fence.stop(state.Epoch) {
		return
	}
	n.log.Error("a Postgres that is being killed does not end; releasing its epoch", "epoch", state.Epoch, "run", view.Run)
	n.end(state.Epoch)
}

// undying says that self is primary and that its Postgres, of this epoch or one before it, has been dying for longer than
// failoverAfter. Killing is final for a run, whatever it was begun for, and nothing is started before it has ended. An agent
// in its ordinary loop would release the epoch then and has to wait for that end.
func undying(s fsm.State, self fsm.NodeID, v guard.View, now, failoverAfter time.Duration) bool {
	return s.Epoch > 0 && s.Primary == self && !s.Paused && fsm.Epoch(v.Epoch) <= s.Epoch &&
		v.State == guard.StateKilling && now-v.Since >= failoverAfter
}

// stop tells the guard to kill what serves epoch or one before it, and bars it; false if nothing serves that. What is being
// killed already counts as well, for whatever it was told to end: a crash, or an agent before this one, may have told it,
// and in a disk that hangs it does not end. Refusing that order would leave an epoch that nobody serves and nobody releases.
func (f *fence) stop(epoch fsm.Epoch) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	v := f.guard.Record()
	dying := v.State == guard.StateKilling || v.Verdict == guard.VerdictStop
	if v.Gone() || v.Verdict != guard.VerdictServe && !dying || fsm.Epoch(v.Epoch) > epoch {
		return false
	}
	f.barred = max(f.barred, epoch+1)
	if f.epoch <= epoch {
		f.deadline = 0
	}
	return f.guard.Set(guard.VerdictStop, v.Epoch, 0) || dying // a stop is final, and not written twice
}

// endSick sees to it that epoch is released, or else that this node falls silent: then its seal is waited for instead.
func (n *Node) endSick(epoch fsm.Epoch) {
	done := make(chan error, 1)
	go func() { done <- n.releaseSick(epoch) }()
	select {
	case err := <-done:
		if err == nil {
			return
		}
		n.log.Error("the sick epoch can't be released", "epoch", epoch, "error", err)
	case <-time.After(n.timing.FailoverAfter):
	}
	n.exit("a sick Postgres could not be ended and released in time; others replace a node that is silent")
}

// blindAfter is how long processes that can never run again must have been seen like that.
const blindAfter = 100 * time.Millisecond

// releaseSick returns when epoch is released. In the ordinary case the agent finds Postgres gone and releases with the end of
// its log, which makes this node's position count. Where the agent hangs in the disk that is sick, or the processes do, so
// that not even a kill ends them, the release goes out from here without a position.
func (n *Node) releaseSick(epoch fsm.Epoch) error {
	var since time.Duration // when nothing was left that may run
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range tick.C {
		if n.records.ReleasedEpoch() >= epoch {
			return nil
		}
		view := n.guard.Record()
		patience := n.timing.FailoverAfter / 4
		if !view.Gone() {
			patience = blindAfter
			if never, err := guard.NeverRuns(view); err != nil || !never {
				since = 0
				continue
			}
		}
		if since == 0 {
			since = guard.Now()
		}
		if guard.Now()-since >= patience {
			return n.releaseBlind(epoch)
		}
	}
	return nil
}

// releaseBlind releases epoch without a position.
func (n *Node) releaseBlind(epoch fsm.Epoch) error {
	rel := fsm.Release{Epoch: epoch, Node: n.cluster.Self()}
	if err := n.records.Release(rel); err != nil {
		return err
	}
	n.cluster.Released(rel)
	n.fence.Release(epoch)
	n.blind.Store(n.records.Released())
	n.log.Warn("released without a position: the agent or a process hangs in the disk", "epoch", epoch)
	n.tell()
	return nil
}
