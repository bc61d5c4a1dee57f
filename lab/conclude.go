package lab

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
)

// conclude reads what is needed for the figures, and computes them.
func (l *Lab) conclude(ctx context.Context, t *Trial, p Plan, after State) (history.Figures, error) {
	t.New, t.EpochAfter = after.Primary, after.Epoch
	writes, err := load.Read(filepath.Join(p.Dir, t.Events))
	if err != nil {
		return history.Figures{}, err
	}
	if t.Present, err = l.survivors(ctx, l.Node(t.New), writes); err != nil {
		return history.Figures{}, err
	}
	log, err := l.logSince(t.Fault)
	if err != nil {
		return history.Figures{}, err
	}
	t.Rejoin = rejoin(*t, log)
	for _, k := range after.Kept {
		if k.Epoch > t.EpochBefore {
			t.Kept = append(t.Kept, k)
		}
	}
	f := computeOf(*t, writes)
	if f.Lost > 0 {
		if t.Found, err = found(lostOf(writes, t.Present), t.Kept); err != nil {
			return f, err
		}
	}
	t.Steps, t.Rules = timeline(*t, after, log, f)
	return f, nil
}

// survivors returns which ids of the load's writes the node's Postgres has, sorted.
func (l *Lab) survivors(ctx context.Context, n *Node, writes []history.Write) ([]int64, error) {
	first, last := int64(0), int64(0)
	for _, w := range writes {
		if w.OfLoad() {
			if first == 0 || w.ID < first {
				first = w.ID
			}
			last = max(last, w.ID)
		}
	}
	have, err := l.present(ctx, n, loadTable, first, last)
	if err != nil {
		return nil, err
	}
	ids := make([]int64, 0, len(have))
	for id := range have {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids, nil
}

// rejoin says how the node that was hit came back, going by its log since the fault.
func rejoin(t Trial, log []logLine) string {
	if len(t.Hit) == 0 {
		return "none"
	}
	for _, way := range []string{"clone", "rewind"} {
		if slices.ContainsFunc(log, func(r logLine) bool { return r.node == t.Hit[0] && strings.HasPrefix(r.text, way+" begins") }) {
			return way
		}
	}
	if t.New == t.Old && t.Hit[0] == t.Old {
		return "none"
	}
	return "plain"
}
