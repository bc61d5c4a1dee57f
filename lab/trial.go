package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
)

// The course of one trial.
const (
	healthyFor = 3 * time.Second  // before the fault, which then comes at any instant of the second that follows
	observeFor = 10 * time.Second // after it
	showFor    = 3 * time.Second  // after it, when it is shown to a person and nothing is due
	minRate    = 150              // acknowledgements per second before the fault
	rateLimit  = 10 * time.Second // to reach that
)

// Trial is one fault under load, and how it ended: all that the figures are computed from, but for the writes, which are
// in the file Events.
type Trial struct {
	Kind        string   `json:"fault"`
	Durability  string   `json:"durability"`
	Nodes       int      `json:"nodes"`
	Witnesses   int      `json:"witnesses,omitempty"` // of the nodes
	Hit         []string `json:"hit"`
	Fault       int64    `json:"fault_at"`        // nanoseconds since boot, as in Events
	Until       int64    `json:"until,omitempty"` // when the clients stopped, if before the end of the window
	Old         string   `json:"old_primary"`
	New         string   `json:"new_primary"`
	OldLeader   string   `json:"old_leader"`
	EpochBefore uint64   `json:"epoch_before"`
	EpochAfter  uint64   `json:"epoch_after"`
	RecoveredMS float64  `json:"recovered_ms"`       // from the beginning of healing until all nodes were well
	Rejoin      string   `json:"rejoin"`             // how the node that was hit came back: plain, rewind, clone, or none if it never left
	Respawned   int      `json:"respawned"`          // agents that were started again before healing
	Kept        []Kept   `json:"kept"`               // evidence of what was discarded since
	Found       []int64  `json:"found"`              // lost ids that are in it
	Unhealed    string   `json:"unhealed,omitempty"` // why there are no figures
	Prober      bool     `json:"prober"`
	Rate        int64    `json:"acks_per_second"` // before the fault
	Steps       []Step   `json:"steps"`
	Rules       []Step   `json:"rules"`   // that decided something after the fault, each when it first did
	Present     []int64  `json:"present"` // ids of the load that the final primary has
	Events      string   `json:"events"`  // file beside this one
}

// Step is a line of the timeline of a failover. MS counts from the fault.
type Step struct {
	Name string  `json:"name"`
	MS   float64 `json:"ms"`
}

// Plan says what a trial does.
type Plan struct {
	Kind      string
	LeaderToo bool
	Prober    bool
	Libpq     bool   // a client beside the load that tries one host after another
	Dir       string // for what is kept
	Name      string // of the two files in Dir
}

// Try makes one fault under load, observes it, heals, and compares. The cluster must be whole before. What was seen is in
// Plan.Dir even when healing fails.
func (l *Lab) Try(ctx context.Context, p Plan) (t Trial, err error) {
	t, c, err := l.breakUnderLoad(ctx, p)
	if err != nil {
		return t, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	if err := pause(ctx, observeFor-time.Duration(load.Now()-t.Fault)); err != nil {
		return t, err
	}
	t.Respawned = l.respawned()
	c.unkeep()
	began := time.Now()
	after, err := l.Heal(ctx)
	if err != nil {
		t.Unhealed = firstLine(err)
		return t, errors.Join(err, t.save(p))
	}
	t.RecoveredMS = float64(time.Since(began).Milliseconds())
	if err := c.stop(); err != nil {
		return t, err
	}
	if _, err := l.conclude(ctx, &t, p, after); err != nil {
		return t, err
	}
	return t, t.save(p)
}

// firstLine is the error without the states and logs that follow.
func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// Show makes one fault under load, waits until there is a primary again that takes writes, or for a while when no new one
// is due, and returns what happened. It does not heal.
func (l *Lab) Show(ctx context.Context, p Plan) (t Trial, f history.Figures, err error) {
	t, c, err := l.breakUnderLoad(ctx, p)
	if err != nil {
		return t, f, err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	k, err := kindOf(p.Kind)
	if err != nil {
		return t, f, err
	}
	epoch := t.EpochBefore
	if k.due == dueFailover {
		epoch++
	} else if err := pause(ctx, showFor); err != nil {
		return t, f, err
	}
	after, err := l.await(ctx, "there is a primary again", func(s State) bool {
		return s.Epoch >= epoch && s.Epoch > 0 && s.Nodes[s.Primary].Serving == s.Epoch
	})
	if err != nil {
		return t, f, err
	}
	t.Respawned = l.respawned()
	limit, cancel := context.WithTimeout(ctx, healLimit)
	defer cancel()
	if err := c.flowing(limit, 1); err != nil {
		return t, f, errors.Join(err, errors.New(l.Report()))
	}
	t.Until = load.Now()
	if err := c.stop(); err != nil {
		return t, f, err
	}
	f, err = l.conclude(ctx, &t, p, after)
	return t, f, err
}

// breakUnderLoad starts the clients, waits until all was well for long enough and breaks at a random instant. The clients
// still run when it returns without an error.
func (l *Lab) breakUnderLoad(ctx context.Context, p Plan) (Trial, *clients, error) {
	t := Trial{
		Kind: p.Kind, Durability: l.Durability, Nodes: len(l.Nodes), Witnesses: len(l.witnesses()), Prober: p.Prober,
		Events: p.Name + ".events",
	}
	c, err := l.startLoad(filepath.Join(p.Dir, t.Events), loadOptions{probe: p.Prober, libpq: p.Libpq})
	if err != nil {
		return t, nil, err
	}
	c.unkeep = sync.OnceFunc(l.keep(ctx))
	f, rate, err := l.breakWhenWell(ctx, c, p)
	if err != nil {
		return t, nil, errors.Join(err, c.stop())
	}
	t.Fault, t.Old, t.OldLeader, t.EpochBefore, t.Rate = f.At, f.Before.Primary, f.Before.Leader, f.Before.Epoch, rate
	for _, n := range f.Hit {
		t.Hit = append(t.Hit, n.Name)
	}
	return t, c, nil
}

func (l *Lab) breakWhenWell(ctx context.Context, c *clients, p Plan) (Fault, int64, error) {
	warm, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	// A machine that is too slow for the rate is told so with the figures; one on which nothing flows has no figures.
	fast, enough := context.WithTimeout(warm, rateLimit)
	defer enough()
	if c.flowing(fast, minRate) != nil {
		if err := c.flowing(warm, 1); err != nil {
			return Fault{}, 0, err
		}
	}
	first, err := l.AwaitHealthy(warm)
	if err != nil {
		return Fault{}, 0, err
	}
	before := c.acks.Load()
	if err := pause(ctx, healthyFor); err != nil {
		return Fault{}, 0, err
	}
	rate := int64(float64(c.acks.Load()-before) / healthyFor.Seconds())
	s, err := l.AwaitHealthy(warm)
	if err != nil {
		return Fault{}, 0, err
	}
	if s.Epoch != first.Epoch {
		return Fault{}, 0, fmt.Errorf("the cluster went from epoch %d to %d though nothing was broken", first.Epoch, s.Epoch)
	}
	if err := pause(ctx, rand.N(time.Second)); err != nil {
		return Fault{}, 0, err
	}
	f, err := l.Break(ctx, p.Kind, s, p.LeaderToo)
	return f, rate, err
}

// computeOf computes the figures of a trial.
func computeOf(t Trial, writes []history.Write) history.Figures {
	r := history.Run{Fault: t.Fault, Until: t.Until, Old: t.Old, Writes: writes, Survived: map[int64]bool{}}
	for _, id := range t.Present {
		r.Survived[id] = true
	}
	return history.Compute(r)
}

// save keeps the trial beside its events.
func (t Trial) save(p Plan) error {
	b, err := json.MarshalIndent(t, "", " ")
	if err != nil {
		return fmt.Errorf("encode the trial: %w", err)
	}
	if err := os.WriteFile(filepath.Join(p.Dir, p.Name+".json"), append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("keep the trial: %w", err)
	}
	return nil
}
