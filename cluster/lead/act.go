package lead

import (
	"context"
	"sync"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

const (
	// answerWithin bounds an Ask or Seal; a node that does not answer is called again after it.
	answerWithin = 250 * time.Millisecond
	// detachWithin bounds a Detach. It may have to kill a Postgres that doesn't answer and scan its WAL; the node itself
	// does that only once, however often it is called.
	detachWithin = time.Second
	// againAfter is when a node that answered may be called again for the same; asking is cheap but not free.
	againAfter = 25 * time.Millisecond
	// proposeWithin bounds one proposal; Raft gives it up by itself when the leadership is lost.
	proposeWithin = 5 * time.Second
	// proposeAgain is the pause after a proposal that failed, so that a standing refusal doesn't spin.
	proposeAgain = 100 * time.Millisecond
)

// call names one question to one node.
type call struct {
	kind  string
	node  fsm.NodeID
	epoch fsm.Epoch
}

// flight is a call's state: running, or when it may be repeated.
type flight struct {
	running bool
	again   time.Duration
}

// carryOut does what d says, without waiting for it: outcomes come back as wakes.
func (l *Loop) carryOut(ctx context.Context, calls *sync.WaitGroup, v failover.View, d failover.Decision) {
	switch do := d.Do.(type) {
	case failover.Ask:
		for _, id := range do.Voters {
			l.ask(ctx, calls, id, do.Epoch)
		}
	case failover.SealNow:
		l.mu.Lock()
		l.ledger.noteSealing(l.cfg.Boot(), do.Epoch)
		l.mu.Unlock()
		for _, id := range do.Seal {
			l.seal(ctx, calls, id, do.Epoch)
		}
		for _, id := range do.Detach {
			l.detach(ctx, calls, id, do.Epoch)
		}
	case failover.Propose:
		l.propose(ctx, calls, do, d.Rule)
	case failover.Reconfigure:
		l.reconfigure(ctx, calls, do, d.Rule)
	case failover.Stop:
		l.stop(ctx, calls, do.Node, do.Epoch)
	case failover.HandOff:
		if !l.owesReport(v) {
			l.handOff(ctx, calls, do.To)
		}
	}
}

func (l *Loop) ask(ctx context.Context, calls *sync.WaitGroup, id fsm.NodeID, epoch fsm.Epoch) {
	l.start(ctx, calls, call{"ask", id, epoch}, answerWithin, func(ctx context.Context) error {
		r, err := l.voters.Ask(ctx, id, epoch)
		if err == nil {
			l.record(func(now time.Duration) { l.ledger.noteAnswer(now, id, epoch, r) })
		}
		return err
	})
}

func (l *Loop) seal(ctx context.Context, calls *sync.WaitGroup, id fsm.NodeID, epoch fsm.Epoch) {
	l.start(ctx, calls, call{"seal", id, epoch}, answerWithin, func(ctx context.Context) error {
		r, err := l.voters.Seal(ctx, id, epoch)
		if err == nil {
			l.record(func(now time.Duration) { l.ledger.noteSeal(now, id, epoch, r) })
		}
		return err
	})
}

func (l *Loop) detach(ctx context.Context, calls *sync.WaitGroup, id fsm.NodeID, epoch fsm.Epoch) {
	l.start(ctx, calls, call{"detach", id, epoch}, detachWithin, func(ctx context.Context) error {
		p, err := l.voters.Detach(ctx, id, epoch)
		l.record(func(now time.Duration) {
			if err != nil {
				l.ledger.noteRefusal(now, id, epoch, err)
				return
			}
			l.ledger.notePosition(id, epoch, p)
		})
		return err
	})
}

// record changes the ledger under the lock, with the clock read after the answer came in.
func (l *Loop) record(change func(now time.Duration)) {
	l.mu.Lock()
	change(l.cfg.Boot())
	l.mu.Unlock()
	l.Wake()
}

// start runs do for c in its own goroutine unless c is running or was repeated too recently.
func (l *Loop) start(ctx context.Context, calls *sync.WaitGroup, c call, within time.Duration, do func(context.Context) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	began := l.cfg.Boot()
	if f := l.calls[c]; f.running || began < f.again {
		return
	}
	for old := range l.calls {
		if old.epoch < l.ledger.epoch && !l.calls[old].running {
			delete(l.calls, old)
		}
	}
	l.calls[c] = flight{running: true}
	calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		err := do(ctx)
		pause := againAfter
		if err != nil {
			l.cfg.Logger.Debug("node did not answer", "what", c.kind, "node", c.node, "epoch", c.epoch, "error", err)
			pause = answerWithin
		}
		l.mu.Lock()
		l.calls[c] = flight{again: began + pause}
		l.mu.Unlock()
		l.Wake()
	})
}

// propose submits one command.
func (l *Loop) propose(ctx context.Context, calls *sync.WaitGroup, do failover.Propose, rule string) {
	l.change(ctx, calls, func(ctx context.Context) error {
		return l.consensus.Submit(ctx, do.Command, do.IfRev, rule)
	}, "rule", rule, "command", do.Command.Kind(), "if_rev", do.IfRev)
}

// reconfigure changes Raft's configuration by one server.
func (l *Loop) reconfigure(ctx context.Context, calls *sync.WaitGroup, do failover.Reconfigure, rule string) {
	l.change(ctx, calls, func(ctx context.Context) error {
		return l.consensus.Reconfigure(ctx, do)
	}, "rule", rule, "node", do.Node, "to", string(do.To))
}

// change puts one thing at a time into the log. what says which for the log of this process.
func (l *Loop) change(ctx context.Context, calls *sync.WaitGroup, submit func(context.Context) error, what ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proposing || l.transferring || l.cfg.Boot() < l.retryAt {
		return
	}
	l.proposing = true
	calls.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, proposeWithin)
		defer cancel()
		err := submit(ctx)
		if err != nil {
			l.cfg.Logger.Info("proposal failed", append(what, "error", err)...)
		}
		l.mu.Lock()
		l.proposing = false
		if err != nil {
			l.retryAt = l.cfg.Boot() + proposeAgain
		}
		l.mu.Unlock()
		l.Wake()
	})
}

// handOff transfers the leadership, rarely: a transfer that fails stops proposals for an election timeout.
func (l *Loop) handOff(ctx context.Context, calls *sync.WaitGroup, to fsm.NodeID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Boot()
	if l.transferring || l.proposing || (l.handedOff > 0 && now-l.handedOff < handOffEvery) {
		return
	}
	l.handedOff, l.transferring = now, true
	calls.Go(func() {
		err := l.consensus.Transfer(ctx, to)
		if err != nil {
			l.cfg.Logger.Info("leadership not handed over", "to", to, "error", err)
		}
		l.mu.Lock()
		l.transferring = false
		l.mu.Unlock()
		l.Wake()
	})
}
