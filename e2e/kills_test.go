package e2e_test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/lab"
)

// killing kills agents in the middle of operations and looks at what must hold whenever the cluster is whole again. Guards
// and Postgres are left alone, and an agent is started again at once, as a service manager does.
type killing struct {
	*broken
	rng    *rand.Rand
	met    map[string]bool      // the steps at which an agent was killed
	homes  map[uint64]*lab.Node // data directories that were in use, by inode
	lossy  [][2]time.Time       // when commits were acknowledged that may be lost
	forgot fsm.Epoch            // no leader remembers failovers up to this one
	ends   map[*lab.Node]int64  // up to where logs were read
}

func newKilling(b *broken, seed uint64) *killing {
	k := &killing{broken: b, rng: rand.New(rand.NewPCG(seed, 0)), met: map[string]bool{}, homes: map[uint64]*lab.Node{}, ends: map[*lab.Node]int64{}}
	// One that is started before all threads of its predecessor are gone finds the lock held and ends.
	b.Cleanup(b.lab.Keep(context.Background()))
	k.intact(b.healthy())
	return k
}

// operation changes something in a whole cluster. It names the nodes whose agents it passes through, and how it is made.
// What is made returns when it is over; an error matters only if nobody was killed.
type operation func(lab.State) (through []*lab.Node, makes func(context.Context) error)

// everywhere makes the operation until it gets through, and kills an agent whenever one logs a step that none was killed at
// yet, by this or an earlier operation. Then it makes it so many times more and kills one agent each time, at a random instant.
func (k *killing) everywhere(op operation, more int) {
	k.Helper()
	took, before := time.Duration(0), len(k.met)
	for took == 0 {
		through, makes := op(k.ready())
		began := time.Now()
		if killed := k.during(makes, func() *lab.Node { return k.atNewStep(through) }); killed == 0 {
			took = time.Since(began)
		}
	}
	for range more {
		through, makes := op(k.ready())
		victim, at := through[k.rng.IntN(len(through))], time.Now().Add(time.Duration(k.rng.Int64N(int64(took))))
		k.during(makes, func() *lab.Node {
			if victim == nil || time.Now().Before(at) {
				return nil
			}
			n := victim
			victim = nil
			return n
		})
	}
	k.Logf("undisturbed it takes %s; an agent was killed at %d more steps, and %d times at random", took.Round(time.Millisecond), len(k.met)-before, more)
}

// during makes something, kills whom strike names meanwhile, and returns how many that were when the cluster is whole again,
// which must be within the limit after the last of them.
func (k *killing) during(makes func(context.Context) error, strike func() *lab.Node) (killed int) {
	k.Helper()
	ctx, stop := context.WithTimeout(k.Context(), 4*limit)
	defer stop()
	made := make(chan error, 1)
	go func() { made <- makes(ctx) }()
	whole := make(chan lab.State, 1)
	failed := make(chan error, 1)
	asOf, last := 0, time.Now() // how many were killed when the look began, and when the last was
	look := func(until time.Time) {
		ctx, stop := context.WithDeadline(ctx, until)
		defer stop()
		if s, err := k.lab.AwaitHealthy(ctx); err != nil {
			failed <- err
		} else {
			whole <- s
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	again := func() {
		asOf = killed
		go look(last.Add(limit))
	}
	for {
		select {
		case <-tick.C:
			if n := strike(); n != nil {
				k.respawn(ctx, n)
				killed, last = killed+1, time.Now()
			}
		case err := <-made:
			if err != nil && killed == 0 {
				k.Fatalf("%v\n%s", err, k.lab.Report())
			}
			last = time.Now()
			again()
		case s := <-whole:
			if killed == asOf {
				k.intact(s)
				return killed
			}
			again()
		case err := <-failed:
			if killed == asOf {
				k.Fatal(err)
			}
			again()
		}
	}
}

// respawn kills the node's agent and starts it again.
func (k *killing) respawn(ctx context.Context, n *lab.Node) {
	k.Helper()
	if err := k.lab.StopDaemon(ctx, n, syscall.SIGKILL); err != nil {
		k.Fatal(err)
	}
	if err := k.lab.StartDaemon(n); err != nil {
		k.Fatal(err)
	}
}

// atNewStep names a node whose agent has just logged a step that nobody was killed at yet.
func (k *killing) atNewStep(nodes []*lab.Node) *lab.Node {
	for _, n := range nodes {
		for line := range strings.Lines(k.logged(n)) {
			if s := stepOf(line); s != "" && !k.met[s] {
				k.met[s] = true
				k.Logf("  %s: killed at %q", n.Name, s)
				return n
			}
		}
	}
	return nil
}

// logged is what the node's agent has logged since this was last asked.
func (k *killing) logged(n *lab.Node) string {
	f, err := os.Open(n.Log())
	if err != nil {
		k.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(f, k.ends[n], 1<<20))
	if err != nil {
		k.Fatal(err)
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	k.ends[n] += int64(len(b))
	return string(b)
}

// ready waits for a whole cluster, forgets what is in the logs and returns how the cluster is. After the second failover
// within a minute a leader holds still for a while, for longer each time; one that has been started since knows of none.
func (k *killing) ready() lab.State {
	k.Helper()
	s, recent := k.healthy(), 0
	others := k.except(k.lab.Node(s.Primary))
	for _, e := range k.history(others[0]).Epochs {
		if at, err := time.Parse(time.RFC3339, e.At); err == nil && e.Epoch > k.forgot && e.From != e.To && time.Since(at) < 2*limit {
			recent++
		}
	}
	if recent >= 2 {
		for _, n := range others {
			k.respawn(k.Context(), n)
			s = k.healthy()
		}
		k.forgot = fsm.Epoch(s.Epoch)
	}
	for _, n := range k.lab.Nodes {
		k.logged(n)
	}
	return s
}

// stepOf is what an agent decides, begins or has done according to a line of its log: "" for what changes nothing, and the
// same for what differs only in names and numbers.
func stepOf(line string) string {
	_, text, _ := strings.Cut(line, "]")
	who, text, _ := strings.Cut(strings.TrimSpace(text), ": ")
	what, rest, _ := strings.Cut(strings.TrimSpace(text), ": ")
	_, part, _ := strings.Cut(who, ".")
	switch {
	case what == "decided":
		rule, _, _ := strings.Cut(strings.TrimPrefix(rest, "rule="), " ")
		if !strings.HasPrefix(rule, "sync-") && rule != "best-standby" && !strings.HasPrefix(rule, "switchover-") {
			return ""
		}
		return "decided " + rule
	case part != "" && part != "postgres" || slices.Contains([]string{
		"settings for the next start", "a probe failed", "step failed and is tried again", "removed the lock file of a postmaster that is dead but not reaped",
	}, what):
		return ""
	case what == "next step":
		step, _, _ := strings.Cut(strings.TrimPrefix(rest, "step="), " ")
		if step == "nothing" || step == "hold" {
			return ""
		}
		_, role, _ := strings.Cut(rest, " role=")
		role, _, _ = strings.Cut(role, " ")
		return step + " as " + role
	case what == "promised", strings.HasSuffix(what, "in force"):
		return what + " for " + string('0'+byte(strings.Count(rest, "n")))
	}
	return what
}

// intact: one node takes writes, which is the primary; nothing acknowledged is gone; never have two taken writes at once;
// and every data directory that was in use is there, if not in its place then beside it.
func (k *killing) intact(s lab.State) {
	k.Helper()
	for _, n := range k.lab.Nodes {
		if r := k.recovering(n); (r == "f") != (n.Name == s.Primary) || r == "" {
			k.Errorf("%s is primary, and on %s recovery is %q\n%s", s.Primary, n.Name, r, k.lab.Report())
		}
	}
	if ms := overlap(k.writers.kept(k.T, k.lab.Node(s.Primary), k.mayBeLost)); ms > 0 {
		k.Errorf("two nodes took writes at once, for %.1f ms", ms)
	}
	there := map[uint64]bool{}
	for _, n := range k.lab.Nodes {
		dirs, _ := filepath.Glob(n.PGData() + "*") // the pattern is a good one
		for _, dir := range dirs {
			if _, err := os.Stat(filepath.Join(dir, "global", "pg_control")); err == nil {
				there[inode(dir)] = true
			}
		}
		k.homes[inode(n.PGData())] = n
	}
	for home, n := range k.homes {
		if !there[home] {
			k.Errorf("a data directory of %s is gone, inode %d", n.Name, home)
		}
	}
	if last := len(k.lossy) - 1; last >= 0 && k.lossy[last][1].IsZero() {
		k.lossy[last][1] = time.Now()
	}
}

// inode identifies a directory, whatever it is called.
func inode(dir string) uint64 {
	i, err := os.Stat(dir)
	if err != nil {
		return 0
	}
	s, ok := i.Sys().(*syscall.Stat_t)
	if !ok {
		return 0
	}
	return s.Ino
}

func (k *killing) mayBeLost(a acked) bool {
	for _, span := range k.lossy {
		if a.at.After(span[0]) && (span[1].IsZero() || a.began.Before(span[1])) {
			return true
		}
	}
	return false
}
