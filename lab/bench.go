package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
)

// ErrUnsafe says that an acknowledged write was lost or that two primaries took writes at once.
var ErrUnsafe = errors.New("the cluster broke its promise")

// BenchOptions say what to measure.
type BenchOptions struct {
	Kind       string
	Runs       int
	Durability string
	Nodes      int
	LeaderToo  bool
	Dir        string // for the raw events; "": a new one
	ID         string // which lab; "": the one that is up, or one of its own
	Exe        string // see Options
}

// Bench is what was measured, in the form that is printed.
type Bench struct {
	Fault      string  `json:"fault"`
	Durability string  `json:"durability"`
	Nodes      int     `json:"nodes"`
	Raw        string  `json:"raw"` // directory with all events; Recompute makes the same of it
	Runs       []Run   `json:"runs"`
	Summary    Summary `json:"summary"`
}

// Run is one trial in figures. A time that never came is null.
type Run struct {
	WriteGapMS    float64  `json:"write_gap_ms"`
	FirstAckNewMS *float64 `json:"first_ack_new_ms"`
	OldAckMS      *float64 `json:"old_ack_ms"`
	Lost          int      `json:"lost"`
	Unknown       int      `json:"unknown"`
	OverlapMS     float64  `json:"overlap_ms"`
	EpochBefore   uint64   `json:"epoch_before"`
	EpochAfter    uint64   `json:"epoch_after"`
	RecoveredMS   float64  `json:"recovered_ms"`
	Rejoin        string   `json:"rejoin"`
	Prober        bool     `json:"prober"`
}

// Summary is over all runs.
type Summary struct {
	WriteGapMS   history.Spread `json:"write_gap_ms"`
	Lost         int            `json:"lost"`
	OverlapMSMax float64        `json:"overlap_ms_max"`
}

// Measure runs the trials. It makes a lab when there is none and takes that down again. ErrUnsafe comes with the figures.
func Measure(ctx context.Context, o BenchOptions, progress io.Writer) (b Bench, err error) {
	if o.Runs < 1 {
		return b, fmt.Errorf("--runs %d: at least 1", o.Runs)
	}
	l, own, err := benchLab(ctx, o, progress)
	if err != nil {
		return b, err
	}
	if own {
		defer func() {
			clean, stop := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
			defer stop()
			err = errors.Join(err, l.Down(clean))
		}()
	}
	if err := l.CanMake(o.Kind); err != nil {
		return b, err
	}
	if o.Dir == "" {
		if o.Dir, err = os.MkdirTemp("", "quorate-bench-"); err != nil {
			return b, fmt.Errorf("make a directory for the events: %w", err)
		}
	} else if err := os.MkdirAll(o.Dir, 0o755); err != nil {
		return b, fmt.Errorf("make a directory for the events: %w", err)
	}
	l.say("raw events go to %s", o.Dir)
	for i := 1; i <= o.Runs; i++ {
		if err := l.benchRun(ctx, o, i); err != nil {
			return b, fmt.Errorf("run %d of %d: %w", i, o.Runs, err)
		}
	}
	return Recompute(o.Dir)
}

// benchLab finds or makes the lab to measure in.
func benchLab(ctx context.Context, o BenchOptions, progress io.Writer) (l *Lab, own bool, err error) {
	if err := Sweep(ctx, progress); err != nil {
		return nil, false, err
	}
	l, err = Find(o.ID, progress)
	if errors.Is(err, ErrNoLab) && o.ID == "" {
		l, err = Up(ctx, Options{Nodes: o.Nodes, Durability: o.Durability, Owned: true, Exe: o.Exe, Out: progress})
		return l, true, err
	}
	if err != nil {
		return nil, false, err
	}
	if len(l.Nodes) != o.Nodes || l.Durability != o.Durability {
		return nil, false, fmt.Errorf("lab %s has %d nodes and durability %s, asked for are %d and %s: take it down first (quorate lab down)",
			l.ID, len(l.Nodes), l.Durability, o.Nodes, o.Durability)
	}
	return l, false, nil
}

// benchRun does one trial. The last one of several goes without the prober, whose writes keep an old primary from coming
// back as it is.
func (l *Lab) benchRun(ctx context.Context, o BenchOptions, i int) error {
	p := Plan{Kind: o.Kind, LeaderToo: o.LeaderToo, Dir: o.Dir, Name: fmt.Sprintf("run-%03d", i), Prober: o.Runs == 1 || i < o.Runs}
	began := time.Now()
	t, err := l.Try(ctx, p)
	if err != nil {
		return err
	}
	r, err := figures(o.Dir, t)
	if err != nil {
		return err
	}
	l.say("run %d of %d: gap %.0f ms, lost %d, unknown %d, overlap %.0f ms, %s -> %s, epoch %d -> %d, rejoined %s after %.1f s (%d acks/s, %.0f s in all)",
		i, o.Runs, r.WriteGapMS, r.Lost, r.Unknown, r.OverlapMS, t.Old, t.New, t.EpochBefore, t.EpochAfter, t.Rejoin, t.RecoveredMS/1000,
		t.Rate, time.Since(began).Seconds())
	l.Tell(t)
	if t.Rate < minRate {
		l.say("  fewer than %d acknowledgements per second before the fault: this machine is busy, and the gap is coarse", minRate)
	}
	return nil
}

// figures computes one run from what is kept of it in dir.
func figures(dir string, t Trial) (Run, error) {
	writes, err := load.Read(filepath.Join(dir, t.Events))
	if err != nil {
		return Run{}, err
	}
	f := computeOf(t, writes)
	return Run{
		WriteGapMS: f.WriteGap, FirstAckNewMS: f.FirstAckNew, OldAckMS: f.OldAck, Lost: f.Lost, Unknown: f.Unknown, OverlapMS: f.Overlap,
		EpochBefore: t.EpochBefore, EpochAfter: t.EpochAfter, RecoveredMS: t.RecoveredMS, Rejoin: t.Rejoin, Prober: t.Prober,
	}, nil
}

// Recompute makes the figures of the trials that are kept in dir. ErrUnsafe comes with the figures.
func Recompute(dir string) (Bench, error) {
	b := Bench{Raw: dir}
	files, err := filepath.Glob(filepath.Join(dir, "run-*.json"))
	if err != nil || len(files) == 0 {
		return b, errors.Join(fmt.Errorf("%s holds no runs of a bench", dir), err)
	}
	slices.Sort(files)
	var gaps []float64
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return b, fmt.Errorf("read a run: %w", err)
		}
		var t Trial
		if err := json.Unmarshal(content, &t); err != nil {
			return b, fmt.Errorf("read %s: %w", file, err)
		}
		if b.Fault != "" && (b.Fault != t.Kind || b.Durability != t.Durability || b.Nodes != t.Nodes) {
			return b, fmt.Errorf("%s holds runs of different benches: %s is of %s with %d nodes, others of %s with %d", dir, file, t.Kind, t.Nodes, b.Fault, b.Nodes)
		}
		b.Fault, b.Durability, b.Nodes = t.Kind, t.Durability, t.Nodes
		r, err := figures(dir, t)
		if err != nil {
			return b, err
		}
		b.Runs = append(b.Runs, r)
		gaps = append(gaps, r.WriteGapMS)
		b.Summary.Lost += r.Lost
		b.Summary.OverlapMSMax = max(b.Summary.OverlapMSMax, r.OverlapMS)
	}
	b.Summary.WriteGapMS = history.SpreadOf(gaps)
	if b.Summary.Lost > 0 || b.Summary.OverlapMSMax > 0 {
		return b, fmt.Errorf("%w: %d acknowledged writes lost, two writers for up to %.0f ms; see %s", ErrUnsafe, b.Summary.Lost, b.Summary.OverlapMSMax, dir)
	}
	return b, nil
}
