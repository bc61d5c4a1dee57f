package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/judge"
	"github.com/quorate/quorate/lab/load"
)

// decideLimit is how long one register's history may take to be judged.
const decideLimit = 20 * time.Second

// histories are what was recorded of a round, and what the primary has of it.
type histories struct {
	writes   []history.Write
	accesses []history.Access
	sights   []history.Sight
	load     map[int64]bool // ids of the load's writes that are there
	all      map[int64]bool // and of the probers'
	past     judge.Past
}

// recorded reads the histories of a round, and adds what the registers hold now as a last read of each.
func (c *chaos) recorded(ctx context.Context, p course, state State) (h histories, err error) {
	file := filepath.Join(c.dir, p.Events)
	if h.writes, err = load.Read(file); err != nil {
		return h, err
	}
	if h.accesses, err = load.ReadAccesses(accessesOf(file)); err != nil {
		return h, err
	}
	if h.sights, err = load.ReadSights(sightsOf(file)); err != nil {
		return h, err
	}
	primary := c.l.Node(state.Primary)
	last, err := c.l.readRegisters(ctx, primary, h.accesses)
	if err != nil {
		return h, err
	}
	h.accesses = append(h.accesses, last...)
	if h.load, h.all, err = c.l.there(ctx, primary, h.writes); err != nil {
		return h, err
	}
	h.past, err = c.l.past(ctx, state)
	return h, err
}

// past is how the primary's log came to be.
func (l *Lab) past(ctx context.Context, state State) (p judge.Past, err error) {
	p.Timeline = state.Nodes[state.Primary].Timeline
	if p.History, err = l.Node(state.Primary).historyFile(p.Timeline); err != nil {
		return p, err
	}
	p.Agreed, err = l.agreed(ctx)
	return p, err
}

// historyFile is the file of a timeline, "" if there is none, as of the first one.
func (n *Node) historyFile(timeline uint32) (string, error) {
	content, err := os.ReadFile(filepath.Join(n.PGData(), "pg_wal", pg.HistoryFileName(pg.Timeline(timeline))))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the history of timeline %d on %s: %w", timeline, n.Name, err)
	}
	return string(content), nil
}

// there are the ids of the load's writes that a node has, and those with the probers'.
func (l *Lab) there(ctx context.Context, n *Node, writes []history.Write) (ofLoad, all map[int64]bool, err error) {
	all = map[int64]bool{}
	for _, prober := range []bool{true, false} {
		table := loadTable
		if prober {
			table = proberTable
		}
		first, last := int64(math.MaxInt64), int64(0)
		for _, w := range writes {
			if w.Client == "" && w.Prober == prober {
				first, last = min(first, w.ID), max(last, w.ID)
			}
		}
		if ofLoad, err = l.present(ctx, n, table, first, last); err != nil {
			return nil, nil, err
		}
		for id := range ofLoad {
			all[id] = true
		}
	}
	return ofLoad, all, nil
}

// readRegisters reads each register of a history once.
func (l *Lab) readRegisters(ctx context.Context, n *Node, accesses []history.Access) (reads []history.Access, err error) {
	if len(accesses) == 0 {
		return nil, nil
	}
	var keys []int64
	for _, a := range accesses {
		keys = append(keys, a.Key)
	}
	slices.Sort(keys)
	conn, err := l.connect(ctx, n)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, key := range slices.Compact(keys) {
		a := history.Access{Key: key, Kind: history.Get, Node: n.Name, Start: load.Now(), Outcome: history.OK}
		if err := conn.QueryRow(ctx, "SELECT coalesce((SELECT value FROM "+registers+" WHERE key = $1), 0)", key).Scan(&a.Got); err != nil {
			return nil, fmt.Errorf("read a register on %s: %w", n.Name, err)
		}
		a.End = load.Now()
		reads = append(reads, a)
	}
	return reads, nil
}

// errBlind says that so little was recorded that a check could find nothing.
var errBlind = errors.New("the round saw nothing")

// blind says what the histories of a round lack that each has in which clients did what they are for: the cluster is whole when they
// begin, and takes writes when they end. probed: every node was.
func (h histories) blind(probed bool) error {
	var lacks []string
	need := func(there bool, what string) {
		if !there {
			lacks = append(lacks, what)
		}
	}
	need(slices.ContainsFunc(h.writes, func(w history.Write) bool { return w.OfLoad() && w.Outcome == history.OK }), "acknowledged write")
	// What evidence is judged by; a write without is not looked for there.
	need(slices.ContainsFunc(h.writes, func(w history.Write) bool { return w.OfLoad() && w.XID > 0 && w.LSN > 0 }), "place of a write in the log")
	need(!probed || slices.ContainsFunc(h.writes, func(w history.Write) bool { return w.Prober && w.ID > 0 && w.Outcome == history.OK }), "write of a prober")
	// Each register was read by the lab in the end, whether clients got an answer or not.
	need(slices.ContainsFunc(h.accesses, func(a history.Access) bool { return a.Kind != history.Get && a.Outcome == history.OK }), "change of a register")
	need(len(h.sights) > 0, "look of a reader")
	need(slices.ContainsFunc(h.sights, func(s history.Sight) bool { return s.Primary }), "look at a primary")
	if len(lacks) == 0 {
		return nil
	}
	return fmt.Errorf("%w: no %s was recorded, so that a check has nothing to judge", errBlind, strings.Join(lacks, ", no "))
}

// judge is what all checks find in a round. With async a failover may take back what was acknowledged, and what was read.
func (c *chaos) judge(h histories, p course) []judge.Violation {
	async := c.l.Durability == "async"
	found := judge.AppendSet(h.writes, h.load, async)
	found = append(found, judge.OneWriter(h.writes, p.Unfenced)...)
	found = append(found, judge.Discarded(h.writes, h.all, c.evidence)...)
	found = append(found, judge.Bytes(h.writes, h.past, c.evidence)...)
	found = append(found, judge.Sound(c.evidence)...)
	if async && p.Before != p.After {
		c.tally.unjudged++
		return found
	}
	registers, all, undecided := judge.Linearizable(h.accesses, p.Unfenced, decideLimit)
	c.tally.registers, c.tally.undecided = c.tally.registers+all, c.tally.undecided+undecided
	found = append(found, registers...)
	return append(found, judge.Monotone(h.sights, h.writes, h.load, p.Unfenced)...)
}

// collect gathers evidence and reads what it lists, while it is there.
func (c *chaos) collect(ctx context.Context, state State) error {
	known := len(c.kept)
	if err := c.gather(ctx, state); err != nil {
		return err
	}
	for _, k := range c.kept[known:] {
		c.evidence = append(c.evidence, readKept(k, load.Now()))
	}
	return nil
}

// compare looks in the end for what any round had, since a later one may lose it, and at all copies.
func (c *chaos) compare(ctx context.Context) error {
	state, err := c.whole(ctx)
	if err != nil {
		return errors.Join(c.violated([]judge.Violation{{Check: judge.Liveness, What: firstLine(err)}}), c.report(err))
	}
	if err := c.collect(ctx, state); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(c.dir, "round-*.events"))
	if err != nil {
		return fmt.Errorf("look for the history: %w", err)
	}
	past, err := c.l.past(ctx, state)
	if err != nil {
		return err
	}
	found := append(judge.Sound(c.evidence), judge.Decided(c.tally.registers, c.tally.undecided)...)
	for _, file := range files {
		writes, err := load.Read(file)
		if err != nil {
			return err
		}
		ofLoad, all, err := c.l.there(ctx, c.l.Node(state.Primary), writes)
		if err != nil {
			return err
		}
		c.tally.lost += len(judge.Lost(writes, ofLoad))
		found = append(found, judge.AppendSet(writes, ofLoad, c.l.Durability == "async")...)
		found = append(found, judge.Discarded(writes, all, c.evidence)...)
		found = append(found, judge.Bytes(writes, past, c.evidence)...)
	}
	copies, err := c.l.copies(ctx, state)
	if err != nil {
		return err
	}
	found = append(found, judge.SameLineage(copies, past.Agreed)...)
	leaks, err := c.leaks(ctx)
	if err != nil {
		return err
	}
	return c.violated(append(found, leaks...))
}

// whole undoes what is left of the last round, which may have been interrupted, and waits until the cluster is whole.
func (c *chaos) whole(ctx context.Context) (State, error) {
	ctx, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	if c.last == nil {
		return c.l.AwaitHealthy(ctx)
	}
	if err := c.last.calm(ctx); err != nil {
		return State{}, err
	}
	return c.restore(ctx, c.last)
}

// copies reads what every node with a Postgres has, once the standbys have all that the primary has. Nobody may write.
func (l *Lab) copies(ctx context.Context, state State) ([]judge.Copy, error) {
	ctx, stop := context.WithTimeout(ctx, healLimit)
	defer stop()
	end := ""
	var all []judge.Copy
	for _, n := range seating(l.members(), state.Primary) {
		if n.Witness {
			continue
		}
		c, err := l.copyOf(ctx, n, state, &end)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", n.Name, err)
		}
		all = append(all, c)
	}
	return all, nil
}

// copyOf reads one node; end is where the primary's log ends, which the primary, the first of them, sets.
func (l *Lab) copyOf(ctx context.Context, n *Node, state State, end *string) (judge.Copy, error) {
	c := judge.Copy{Node: n.Name, Timeline: state.Nodes[n.Name].Timeline, Tables: map[string]string{}}
	conn, err := l.connect(ctx, n)
	if err != nil {
		return c, err
	}
	defer func() { _ = conn.Close(ctx) }()
	if n.Name == state.Primary {
		err = conn.QueryRow(ctx, "SELECT pg_current_wal_flush_lsn()::text").Scan(end)
	} else {
		err = until(ctx, n.Name+" has replayed "+*end, func() (done bool, err error) {
			err = conn.QueryRow(ctx, "SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", *end).Scan(&done)
			return done, err
		})
	}
	if err != nil {
		return c, err
	}
	if c.History, err = n.historyFile(c.Timeline); err != nil {
		return c, err
	}
	for _, table := range []string{loadTable, proberTable, libpqTable, registers} {
		if c.Tables[table], err = sumOf(ctx, conn, table); err != nil {
			return c, err
		}
	}
	return c, nil
}

// sumOf is a sum over all rows, whatever their order.
func sumOf(ctx context.Context, conn *pgx.Conn, table string) (sum string, err error) {
	err = conn.QueryRow(ctx, "SELECT count(*) || ' rows, sum ' || coalesce(sum(hashtextextended(t::text, 0)::numeric), 0) FROM "+table+" t").Scan(&sum)
	if err != nil {
		return "", fmt.Errorf("sum up %s: %w", table, err)
	}
	return sum, nil
}

// agreed is how the cluster's timelines came to be, as far as it remembers.
func (l *Lab) agreed(ctx context.Context) (all []judge.Branch, err error) {
	err = l.ask(ctx, func(ctx context.Context, c *client.Client) error {
		e, err := c.Explain(ctx)
		if err != nil {
			return err
		}
		all = nil
		for _, b := range e.View.State.Lineage {
			if b.Promoted {
				all = append(all, judge.Branch{Timeline: uint32(b.Timeline), Parent: uint32(b.Parent), Switch: b.SwitchLSN.String()})
			}
		}
		return nil
	})
	return all, err
}
