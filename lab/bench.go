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
	Nodes      int // with a Postgres; 0: three
	Witnesses  int
	Failover   time.Duration // 0: one second
	LeaderToo  bool
	Libpq      bool   // beside the load a client that tries its hosts one after another
	Dir        string // for the raw events; "": a new one
	ID         string // which lab; "": the one that is up, or one of its own
	Exe        string // see Options
}

// Bench is what was measured, in the form that is printed.
type Bench struct {
	Fault      string  `json:"fault"`
	Durability string  `json:"durability"`
	Nodes      int     `json:"nodes"`
	Witnesses  int     `json:"witnesses"` // of the nodes
	Raw        string  `json:"raw"`       // directory with all events; Recompute makes the same of it
	Runs       []Run   `json:"runs"`
	Unhealed   int     `json:"unhealed,omitempty"` // runs after which the cluster was not whole in time; they have no figures
	Summary    Summary `json:"summary"`
}

// Run is one trial in figures. A time that never came is null.
type Run struct {
	WriteGapMS    float64  `json:"write_gap_ms"`
	LibpqGapMS    *float64 `json:"libpq_gap_ms,omitempty"` // of the client that tries its hosts one after another
	FirstAckNewMS *float64 `json:"first_ack_new_ms"`
	OldAckMS      *float64 `json:"old_ack_ms"`
	Lost          int      `json:"lost"`
	Unknown       int      `json:"unknown"`
	OverlapMS     float64  `json:"overlap_ms"`
	EpochBefore   uint64   `json:"epoch_before"`
	EpochAfter    uint64   `json:"epoch_after"`
	RecoveredMS   float64  `json:"recovered_ms"`
	FailedOver    bool     `json:"failed_over"` // another node is primary in the end
	Found         int      `json:"found"`       // of the lost, how many stand in evidence
	Rejoin        string   `json:"rejoin"`
	Prober        bool     `json:"prober"`
}

// Summary is over all runs.
type Summary struct {
	WriteGapMS   history.Spread  `json:"write_gap_ms"`
	LibpqGapMS   *history.Spread `json:"libpq_gap_ms,omitempty"`
	Lost         int             `json:"lost"`
	Found        int             `json:"found"`       // of the lost, how many stand in evidence
	FailedOver   int             `json:"failed_over"` // runs
	OverlapMSMax float64         `json:"overlap_ms_max"`
}

// Measure runs the trials. It makes a lab when there is none and takes that down again. ErrUnsafe comes with the figures.
func Measure(ctx context.Context, o BenchOptions, progress io.Writer) (b Bench, err error) {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Durability == "" {
		o.Durability = "quorum"
	}
	if o.Failover == 0 {
		o.Failover = time.Second
	}
	if _, err := kindOf(o.Kind); err != nil {
		return b, err
	}
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
	if o.Dir, err = makeOut(o.Dir, "quorate-bench-"); err != nil {
		return b, err
	}
	l.say("raw events go to %s", o.Dir)
	for i := 1; i <= o.Runs; i++ {
		if err := l.benchRun(ctx, o, i); err != nil {
			b, _ = Recompute(o.Dir) // the figures of the runs before, if there are any
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
		l, err = Up(ctx, Options{
			Nodes: o.Nodes, Witnesses: o.Witnesses, Durability: o.Durability, Failover: o.Failover, Disks: NeedsDisks(o.Kind),
			Owned: true, Exe: o.Exe, Out: progress,
		})
		return l, true, err
	}
	if err != nil {
		return nil, false, err
	}
	if has := fmt.Sprintf("%s, durability %s and failover_after %s", l.size(), l.Durability, l.Failover); has != o.wants() {
		return nil, false, fmt.Errorf("lab %s has %s, asked for are %s: take it down first (quorate lab down), or say the same", l.ID, has, o.wants())
	}
	return l, false, nil
}

// wants says what lab is asked for, in the words in which a lab says what it is.
func (o BenchOptions) wants() string {
	l := Lab{}
	for i := range o.Nodes + o.Witnesses {
		l.Nodes = append(l.Nodes, &Node{Witness: i >= o.Nodes})
	}
	return fmt.Sprintf("%s, durability %s and failover_after %s", l.size(), o.Durability, o.Failover)
}

// benchRun does one trial. The last one of several goes without the prober, whose writes keep an old primary from coming
// back as it is.
func (l *Lab) benchRun(ctx context.Context, o BenchOptions, i int) error {
	p := Plan{Kind: o.Kind, LeaderToo: o.LeaderToo, Dir: o.Dir, Name: fmt.Sprintf("run-%03d", i), Prober: o.Runs == 1 || i < o.Runs, Libpq: o.Libpq}
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
	if r.LibpqGapMS != nil {
		l.say("  a client that tries its hosts one after another waited %.0f ms", *r.LibpqGapMS)
	}
	for _, k := range t.Kept {
		l.say("  discarded by %s of %s and kept in %s: %d commits", k.Way, k.Node, k.Path, k.Commits)
	}
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
		FailedOver: t.Old != t.New, Found: len(t.Found), LibpqGapMS: f.LibpqGap,
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
	var gaps, libpq []float64
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return b, fmt.Errorf("read a run: %w", err)
		}
		var t Trial
		if err := json.Unmarshal(content, &t); err != nil {
			return b, fmt.Errorf("read %s: %w", file, err)
		}
		if t.Unhealed != "" {
			b.Unhealed++
			continue
		}
		if b.Fault != "" && (b.Fault != t.Kind || b.Durability != t.Durability || b.Nodes != t.Nodes) {
			return b, fmt.Errorf("%s holds runs of different benches: %s is of %s with %d nodes, others of %s with %d", dir, file, t.Kind, t.Nodes, b.Fault, b.Nodes)
		}
		b.Fault, b.Durability, b.Nodes, b.Witnesses = t.Kind, t.Durability, t.Nodes, t.Witnesses
		r, err := figures(dir, t)
		if err != nil {
			return b, err
		}
		b.Runs = append(b.Runs, r)
		gaps = append(gaps, r.WriteGapMS)
		if r.LibpqGapMS != nil {
			libpq = append(libpq, *r.LibpqGapMS)
		}
		b.Summary.add(r)
	}
	b.Summary.WriteGapMS = history.SpreadOf(gaps)
	if len(libpq) > 0 {
		spread := history.SpreadOf(libpq)
		b.Summary.LibpqGapMS = &spread
	}
	if broken(b.Durability, b.Summary.Lost, b.Summary.OverlapMSMax, b.Fault) {
		return b, fmt.Errorf("%w: %d acknowledged writes lost, two writers for up to %.0f ms; see %s", ErrUnsafe, b.Summary.Lost, b.Summary.OverlapMSMax, dir)
	}
	if bare := b.Summary.Lost - b.Summary.Found; bare > 0 {
		return b, fmt.Errorf("%w: %d of %d lost writes stand in no evidence; see %s", ErrUnsafe, bare, b.Summary.Lost, dir)
	}
	return b, nil
}

func (s *Summary) add(r Run) {
	s.Lost += r.Lost
	s.Found += r.Found
	if r.FailedOver {
		s.FailedOver++
	}
	s.OverlapMSMax = max(s.OverlapMSMax, r.OverlapMS)
}

// broken says whether a promise was broken: with durability async a failover may lose what was acknowledged, and where
// agent and guard are both stopped nobody is left who could keep the old primary's own superuser from writing.
func broken(durability string, lost int, overlap float64, faults ...string) bool {
	return lost > 0 && durability != "async" || overlap > 0 && !slices.Contains(faults, agentGuardStop)
}
