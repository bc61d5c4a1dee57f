package sim

import (
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// How an operator accepts losses: he looks now and then, first waits whether the cluster gets on by itself, and does not speak for
// ever. Faults here last for seconds, so he is quicker than a person.
const (
	acceptLook   = 200 * time.Millisecond
	acceptWaits  = 300 * time.Millisecond  // at least, at most three times that: so long is it stuck before he speaks
	acceptsLate  = 1500 * time.Millisecond // at most, from what he was shown to his word
	acceptsAgain = 2 * time.Second         // after his last word, if it has been stuck ever since
	acceptsStale = 0.3                     // of his words are about what was shown before any log was known
	acceptsMost  = 4                       // in a seed
)

// bystander is an operator who accepts what is lost when a leader is stuck and offers that (docs/decisions/0022). He draws from
// a source of his own: a seed in which nobody is stuck is what it would be without him.
type bystander struct {
	w     *World
	rng   *rand.Rand
	asked int
	from  time.Duration // when he may speak; 0: nobody is stuck
	epoch fsm.Epoch     // that he has looked at
}

// standBy has him look until the faults are over. From then on the cluster has to get on without him.
func (w *World) standBy() {
	b := &bystander{w: w, rng: rand.New(rand.NewPCG(w.opts.Seed, 3))}
	w.at(acceptLook, b.look)
}

func (b *bystander) look() {
	w := b.w
	if w.now >= w.opts.healAt() || b.asked >= acceptsMost {
		return
	}
	w.at(acceptLook, b.look)
	a := b.stuck()
	if a == nil {
		b.from = 0
		return
	}
	v := a.lead.view()
	if b.epoch != v.State.Epoch || b.from == 0 {
		b.epoch, b.from = v.State.Epoch, w.now+b.upTo(acceptWaits, 3*acceptWaits)
	}
	offered := b.offers(v)
	if len(offered) == 0 || w.now < b.from {
		return
	}
	b.accept(a.h, v, offered[b.rng.IntN(len(offered))])
}

// stuck is the daemon of a leader that knows of nobody whom it may appoint.
func (b *bystander) stuck() *agent {
	for _, h := range b.w.hosts {
		if a := &h.agent; a.alive && !a.halted() && a.lead.leads && a.seenAt > 0 && a.lead.last.Verdict == failover.Stuck {
			return a
		}
	}
	return nil
}

// offers lists whom he could have appointed.
func (b *bystander) offers(v failover.View) (out []*host) {
	for _, h := range b.w.hosts {
		if _, against := failover.AcceptLoss(v, h.id); against == "" {
			out = append(out, h)
		}
	}
	return out
}

// accept submits his word a while after he was shown what is lost, when all may be different. The API, which compares once more, is
// not played: the leader and the state machine must not believe a word about something else either.
func (b *bystander) accept(by *host, v failover.View, to *host) {
	token, _ := failover.AcceptLoss(v, to.id)
	if b.rng.Float64() < acceptsStale {
		token = unseen(v.State, to.id)
	}
	b.asked++
	late := b.upTo(0, acceptsLate)
	b.from = b.w.now + late + acceptsAgain
	b.w.say(by, "operator", "will accept what %s lacks", to.name)
	n, id, epoch := b.rng.Uint64(), to.id, v.State.Epoch
	b.w.at(late, func() {
		b.w.asks(n, "operator", func(fsm.State) fsm.Command {
			return fsm.AskFailover{ID: b.w.nextID(), To: id, Epoch: epoch, Loss: token}
		})
	})
}

func (b *bystander) upTo(low, high time.Duration) time.Duration {
	return low + time.Duration(b.rng.Int64N(int64(high-low)))
}
