package failover

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// TestStories runs testdata/*.txt. A story sets the scene with `view` and says what Decide concludes. The language, one
// line per node:
//
//	n1 primary age=1100ms lsn=0/5000 tl=1 run=running serving rev=9 stream=n2@0/5000,n3@0/4F00 released=0/5000
//	n2 standby age=10ms heard=1100ms answer=1200ms seal=0ms/5ms pos=0/5000 failed=cloning
//
// To whom the primary streams says so itself, unless it has an upstream= of its own, of which "none" is nobody.
// released, like pos, may have a timeline: 9:0/5000. after= of view is failover_after; adopted=(n1,3): data that it did not open yet.
// unapplied: for how long it has got nothing of the log, of which it lacks some; epoch: which it shows, the present one if left out.
// heard: age of the primary's last beat in that node's report; answer: how long ago it vouched, by its answer just now;
// seal: left when it answered / since then.
func TestStories(t *testing.T) {
	walkStories(t, func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			v, err := parseView(d)
			if err != nil {
				d.Fatalf(t, "%v", err)
			}
			switch d.Cmd {
			case "view":
				return renderDecision(v, Decide(v))
			case "accept":
				return renderAcceptance(v)
			case "survive":
				return renderLosses(v, Survivable(v))
			}
			d.Fatalf(t, "unknown command %s", d.Cmd)
			return ""
		})
	})
}

// walkStories leaves out what the fuzzer found.
func walkStories(t *testing.T, tell func(t *testing.T, path string)) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		if strings.HasSuffix(path, ".txt") {
			tell(t, path)
		}
	})
}

func baseView() View {
	return View{
		Self: "n2", Leading: true, BeatEvery: 125 * time.Millisecond, FirstNode: "n1",
		LeadingFor: time.Hour, EpochAge: time.Hour,
		Seen: map[fsm.NodeID]Sighting{}, Answers: map[fsm.NodeID]Answer{}, Seals: map[fsm.NodeID]Sealed{},
		Positions: map[fsm.NodeID]fsm.Position{}, Failed: map[fsm.NodeID]string{}, Lost: map[fsm.NodeID]time.Duration{},
		Unapplied: map[fsm.NodeID]time.Duration{}, CaughtUp: map[fsm.NodeID]bool{},
		State: fsm.State{
			ClusterID: "c", Rev: 9, Epoch: 7, Primary: "n1", Members: map[fsm.NodeID]fsm.Member{},
			Lineage: []fsm.Lineage{{Epoch: 7, Node: "n1", Timeline: 3, Parent: 2, SwitchLSN: 0x3000, Promoted: true}},
			Config:  fsm.Config{Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}},
		},
	}
}

func parseView(d *datadriven.TestData) (View, error) {
	v := baseView()
	v.State.Lineage = append([]fsm.Lineage{{Epoch: 5, Node: "n3", Timeline: 2, Parent: 1, SwitchLSN: 0x2000, Promoted: true}}, v.State.Lineage...)
	for _, a := range d.CmdArgs {
		if err := viewOption(&v, a.Key, a.Vals); err != nil {
			return v, fmt.Errorf("option %s: %w", a.Key, err)
		}
	}
	for _, line := range strings.Split(strings.TrimSpace(d.Input), "\n") {
		if err := parseNode(&v, strings.Fields(line)); err != nil {
			return v, fmt.Errorf("%s: %w", line, err)
		}
	}
	for _, m := range v.Seen[v.State.Primary].Report.Streaming {
		if s, ok := v.Seen[m.Node]; ok && s.Report.Upstream == "" {
			s.Report.Upstream = v.State.Primary
			v.Seen[m.Node] = s
		}
	}
	if w := v.State.Wish; w != nil && w.Loss == "known" {
		w.Loss = study(v).token(w.To)
	}
	sort.Slice(v.State.Electorate.Voters, func(i, j int) bool { return v.State.Electorate.Voters[i] < v.State.Electorate.Voters[j] })
	return v, nil
}

func viewOption(v *View, key string, vals []string) error {
	switch key {
	case "shown":
		return duration(&v.ElectorateShown, vals[0])
	case "raft":
		v.Servers = map[fsm.NodeID]Standing{}
		for _, text := range vals {
			name, standing, _ := strings.Cut(text, ":")
			v.Servers[fsm.NodeID(name)] = Standing(standing)
		}
	case "self":
		v.Self = fsm.NodeID(vals[0])
	case "wishage":
		return duration(&v.WishAge, vals[0])
	case "sealing":
		return duration(&v.SealingFor, vals[0])
	case "caughtup":
		for _, n := range vals {
			v.CaughtUp[fsm.NodeID(n)] = true
		}
	case "appointed":
		return durations(&v.Appointed, vals)
	case "reappointed":
		return durations(&v.Reappointed, vals)
	case "epochage":
		return duration(&v.EpochAge, vals[0])
	case "accepted", "wish":
		v.State.Wish = wishOf(key, v.State.Epoch, vals)
	default:
		return stateOption(&v.State, key, vals)
	}
	return nil
}

// wishOf reads accepted=NODE, which accepts what is known now, or with another word after the node something else; and
// wish=(NODE or any, approved).
func wishOf(key string, epoch fsm.Epoch, vals []string) *fsm.Wish {
	w := &fsm.Wish{ID: "w", Kind: fsm.WishSwitchover, Epoch: epoch}
	if len(vals) > 0 && vals[0] != "any" {
		w.To = fsm.NodeID(vals[0])
	}
	if key == "wish" {
		w.Approved = len(vals) > 1 && vals[1] == "approved"
		return w
	}
	w.Kind, w.Loss = fsm.WishFailover, "known"
	if len(vals) > 1 {
		w.Loss = vals[1]
	}
	return w
}

func stateOption(s *fsm.State, key string, vals []string) error {
	switch key {
	case "epoch":
		n, err := strconv.ParseUint(vals[0], 10, 64)
		s.Epoch = fsm.Epoch(n)
		if n == 0 {
			s.Primary, s.Lineage = "", nil
		}
		return err
	case "sync":
		k, err := strconv.Atoi(vals[0])
		s.Sync = fsm.SyncRule{Copies: k}
		for _, m := range vals[1:] {
			s.Sync.Members = append(s.Sync.Members, fsm.NodeID(m))
		}
		return err
	case "async":
		s.Config.Settings.Durability = fsm.DurabilityAsync
	case "adopted": // and not opened yet
		n, err := strconv.ParseUint(vals[1], 10, 32)
		s.Adopted = &fsm.Adoption{Node: fsm.NodeID(vals[0]), Timeline: pg.Timeline(n)}
		for i := range s.Lineage {
			s.Lineage[i].Promoted = false
		}
		return err
	case "after":
		var after time.Duration
		err := duration(&after, vals[0])
		s.Config.Settings.FailoverAfterMS = after.Milliseconds()
		return err
	case "maxlag":
		n, err := strconv.ParseInt(vals[0], 10, 64)
		s.Config.Settings.MaximumLag = n
		return err
	case "strict":
		s.Config.Settings.Strict = true
	case "paused":
		s.Paused = true
	case "resumed":
		n, err := strconv.ParseUint(vals[0], 10, 64)
		s.PauseRev = n
		return err
	case "nocluster":
		s.ClusterID = ""
	default:
		return fmt.Errorf("unknown")
	}
	return nil
}

func durations(list *[]time.Duration, vals []string) error {
	for _, s := range vals {
		var age time.Duration
		if err := duration(&age, s); err != nil {
			return err
		}
		*list = append(*list, age)
	}
	return nil
}

func duration(d *time.Duration, s string) (err error) {
	*d, err = time.ParseDuration(s)
	return err
}

func parseNode(v *View, words []string) error {
	id := fsm.NodeID(words[0])
	m := fsm.Member{ID: id, Name: words[0], Role: fsm.RoleData}
	s := Sighting{Report: Report{Node: id, Epoch: v.State.Epoch, Rev: v.State.Rev, Run: RunRunning, Healthy: true, Timeline: 3}}
	s.Report.InRecovery = words[1] == "standby"
	if words[1] == "witness" {
		m.Role, s.Report.Run = fsm.RoleWitness, RunNone
	}
	unheard := false
	for _, w := range words[2:] {
		key, val, _ := strings.Cut(w, "=")
		if key == "unheard" {
			unheard = true
			continue
		}
		if err := nodeOption(v, id, &m, &s, key, val); err != nil {
			return fmt.Errorf("%s: %w", w, err)
		}
	}
	v.State.Members[id] = m
	if !slices.Contains(words, "nonvoter") {
		v.State.Electorate.Voters = append(v.State.Electorate.Voters, id)
	}
	if !unheard {
		v.Seen[id] = s
	}
	return nil
}

func nodeOption(v *View, id fsm.NodeID, m *fsm.Member, s *Sighting, key, val string) (err error) {
	switch key {
	case "leaving":
		m.Leaving = true
	case "novote":
		m.NoVote = true
	case "nonvoter": // parseNode leaves it out of the electorate
	case "nofailover":
		m.NoFailover = true
	case "priority":
		m.Priority, err = strconv.Atoi(val)
	case "addr":
		m.Addr = val
	case "age":
		return duration(&s.Age, val)
	case "sealed":
		s.Sealed = v.State.Epoch
	case "answer":
		a := Answer{}
		err = duration(&a.VouchedAgo, val)
		v.Answers[id] = a
	case "seal":
		left, age, _ := strings.Cut(val, "/")
		x := Sealed{Epoch: v.State.Epoch}
		err = errors.Join(duration(&x.Left, left), duration(&x.Age, age))
		v.Seals[id] = x
	case "pos":
		at := fsm.Position{Node: id, Detached: v.State.Epoch}
		at.Timeline, at.LSN, err = place(val)
		v.Positions[id] = at
	case "failed":
		v.Failed[id] = val
	case "lost":
		v.Lost[id], err = time.ParseDuration(val)
	case "unapplied":
		v.Unapplied[id], err = time.ParseDuration(val)
	case "promise":
		s.Report.Promise, err = parsePromise(v, id, val)
	default:
		return reportOption(&s.Report, v.State.Epoch, key, val)
	}
	return err
}

// place reads LSN, on timeline 3, or TIMELINE:LSN.
func place(val string) (pg.Timeline, pg.LSN, error) {
	tl, at, ok := strings.Cut(val, ":")
	if !ok {
		tl, at = "3", val
	}
	n, err := strconv.Atoi(tl)
	return pg.Timeline(n), lsnOf(at), err
}

func lsnOf(text string) pg.LSN { l, _ := pg.ParseLSN(text); return l }

func reportOption(r *Report, epoch fsm.Epoch, key, val string) (err error) {
	switch key {
	case "heard":
		var age time.Duration
		err = duration(&age, val)
		r.Sightings = append(r.Sightings, Age{Node: "n1", MS: age.Milliseconds()})
	case "released":
		out := fsm.Release{Epoch: epoch, Node: r.Node}
		out.Timeline, out.FinalLSN, err = place(val)
		r.Released, r.Run = &out, RunStopped
	case "stream":
		for _, x := range strings.Split(val, ",") {
			n, at, _ := strings.Cut(x, "@")
			r.Streaming = append(r.Streaming, StreamingMember{Node: fsm.NodeID(n), Flush: lsnOf(at)})
		}
	case "lsn":
		r.Flush = lsnOf(val)
	case "run":
		r.Run = Run(val)
	case "rev":
		r.Rev, err = strconv.ParseUint(val, 10, 64)
	case "epoch":
		r.Epoch, err = epochOf(val)
	case "serving":
		if r.Serving = epoch; val != "" {
			r.Serving, err = epochOf(val)
		}
	case "restartable":
		r.Restartable = true
	case "sick":
		r.Sick, r.Healthy = val, false
	case "upstream":
		r.Upstream = fsm.NodeID(val)
	case "unhealthy":
		r.Healthy = false
	case "problem":
		r.Problem = val
	default:
		return fmt.Errorf("unknown")
	}
	return err
}

func epochOf(text string) (fsm.Epoch, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	return fsm.Epoch(n), err
}

// parsePromise reads K for the present members, or (K,member,...), with @REV for another revision than the present.
func parsePromise(v *View, id fsm.NodeID, val string) (*fsm.Promise, error) {
	p := &fsm.Promise{Node: id, Rev: v.State.Rev, Rule: fsm.SyncRule{Members: v.State.Sync.Members}}
	val, rev, old := strings.Cut(val, "@")
	var err error
	if old {
		if p.Rev, err = strconv.ParseUint(rev, 10, 64); err != nil {
			return nil, err
		}
	}
	words := strings.Split(strings.Trim(val, "()"), ",")
	if p.Rule.Copies, err = strconv.Atoi(words[0]); err != nil {
		return nil, err
	}
	if strings.HasPrefix(val, "(") {
		p.Rule.Members = nil
		for _, w := range words[1:] {
			p.Rule.Members = append(p.Rule.Members, fsm.NodeID(w))
		}
	}
	return p, nil
}

func renderDecision(v View, d Decision) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s): %s\n", d.Rule, d.Verdict, renderDo(v, d.Do))
	for _, why := range d.Because {
		fmt.Fprintf(&b, "  %s\n", why)
	}
	if d.Again > 0 {
		fmt.Fprintf(&b, "  again in %s\n", d.Again)
	}
	return b.String()
}

// renderAcceptance says of each node whether an operator could have it appointed at a loss.
func renderAcceptance(v View) string {
	var b strings.Builder
	for _, id := range study(v).memberIDs() {
		token, against := AcceptLoss(v, id)
		if against == "" {
			against = fmt.Sprintf("with a token of %d digits", len(token))
		}
		fmt.Fprintf(&b, "%s: %s\n", id, against)
	}
	return b.String()
}

func renderDo(v View, do Do) string {
	switch x := do.(type) {
	case Ask:
		return fmt.Sprintf("ask %v", x.Voters)
	case SealNow:
		return fmt.Sprintf("seal %v detach %v", x.Seal, x.Detach)
	case HandOff:
		return "hand leadership to " + string(x.To)
	case Reconfigure:
		return fmt.Sprintf("make %s a raft %s", x.Node, x.To)
	case Stop:
		return fmt.Sprintf("stop %s in epoch %d", x.Node, x.Epoch)
	case Propose:
		if a, ok := x.Command.(fsm.Appoint); ok {
			return fmt.Sprintf("appoint %s epoch=%d tl=%d at %s with %d seals, %d positions", a.Node, a.IfEpoch+1, a.Timeline, a.SwitchLSN, len(a.Evidence.Seals), len(a.Evidence.Positions))
		}
		if r, ok := x.Command.(fsm.SetSync); ok {
			return fmt.Sprintf("set sync rule %d of %v, promised: %v", r.Rule.Copies, r.Rule.Members, r.Promise != nil)
		}
		return fmt.Sprintf("propose %s %+v", x.Command.Kind(), x.Command)
	}
	return "nothing"
}

func renderLosses(v View, losses []Loss) string {
	var b strings.Builder
	for _, l := range losses {
		fmt.Fprintf(&b, "%s: %v %s\n", l.Node, l.Survives, l.Because)
	}
	return b.String()
}
