package lab

import (
	"cmp"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/load"
)

// logLine is one line of a daemon's log.
type logLine struct {
	node string
	at   int64 // on load.Now's clock, to the millisecond
	text string
}

// logForm is what the daemons write: time, level, name, text.
var logForm = regexp.MustCompile(`^(\S+) \[\w+\] +(\S+): (.*)$`)

// logSince reads what all daemons wrote since then, in its order. Their wall clock is this machine's, as is the lab's.
func (l *Lab) logSince(since int64) ([]logLine, error) {
	offset := time.Now().UnixNano() - load.Now()
	var all []logLine
	for _, n := range l.Nodes {
		b, err := os.ReadFile(n.Log())
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", n.Name, err)
		}
		for _, r := range parseLog(n.Name, string(b), offset) {
			// The log tells milliseconds, cut off.
			if r.at >= since-int64(time.Millisecond) {
				all = append(all, r)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b logLine) int { return cmp.Compare(a.at, b.at) })
	return all, nil
}

// parseLog leaves out what is not a line of the daemon's own.
func parseLog(node, text string, offset int64) (all []logLine) {
	for line := range strings.Lines(text) {
		m := logForm.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04:05.000Z0700", m[1])
		if err != nil {
			continue
		}
		all = append(all, logLine{node: node, at: at.UnixNano() - offset, text: m[3]})
	}
	return all
}

// decided is what the leader writes when its decision has changed.
var decided = regexp.MustCompile(`^decided: rule=(\S+) verdict=(\S+)`)

// timeline puts together the steps of the failover after t, from what the leader told, from the new primary's log, and
// from what clients saw, and the rules that decided.
func timeline(t Trial, after State, log []logLine, f history.Figures) (steps, rules []Step) {
	since := func(at int64) float64 { return float64((at-t.Fault)/int64(10*time.Microsecond)) / 100 }
	for _, p := range after.Phases {
		// The new primary's own log says better when it was promoted than the leader, who heard of it.
		if p.Epoch == t.EpochBefore && int64(p.At) >= t.Fault && p.Name != "promoted" {
			steps = append(steps, Step{p.Name, since(int64(p.At))})
		}
	}
	promoted := false
	for _, r := range log {
		if !promoted && r.node != t.Old && strings.HasPrefix(r.text, "promoted:") {
			promoted = true
			steps = append(steps, Step{"promoted", since(r.at)})
		}
		if m := decided.FindStringSubmatch(r.text); m != nil && m[1] != "healthy" && !hasStep(rules, m[1]) {
			rules = append(rules, Step{m[1], since(r.at)})
		}
	}
	if f.FirstTryNew != nil {
		steps = append(steps, Step{"first try", *f.FirstTryNew})
	}
	if f.FirstAckNew != nil {
		steps = append(steps, Step{"first write", *f.FirstAckNew})
	}
	slices.SortStableFunc(steps, func(a, b Step) int { return cmp.Compare(a.MS, b.MS) })
	return steps, rules
}

func hasStep(steps []Step, name string) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.Name == name })
}

// meaning explains a step to who sees it for the first time.
func meaning(step string) string {
	switch step {
	case "silent":
		return "the leader acts: the primary is silent, or said that it has stopped"
	case "asked":
		return "a majority told how long ago it vouched for the primary last"
	case "sealed":
		return "a majority promised on disk never to vouch for the old epoch again"
	case "positions":
		return "enough standbys have let go of the old primary and told the end of their log"
	case "appointed":
		return "the log names the new primary"
	case "promoted":
		return "its Postgres has left recovery"
	case "serving":
		return "the leader heard that it takes writes"
	case "streaming":
		return "as many standbys follow it as a commit waits for"
	case "first try":
		return "a client found it and sent a commit"
	case "first write":
		return "a client's commit was acknowledged by it and by a standby"
	}
	return ""
}

// Tell shows the timeline.
func (l *Lab) Tell(t Trial) {
	who := t.Old + " is primary"
	if slices.Contains(t.Hit, t.Old) {
		who = "the primary"
	}
	l.say("  %9s  %s of %s, %s in epoch %d", "0 ms", t.Kind, strings.Join(t.Hit, " and "), who, t.EpochBefore)
	for _, s := range t.Steps {
		l.say("  %6.0f ms  %-11s %s", s.MS, s.Name, meaning(s.Name))
	}
	var rules []string
	for _, r := range t.Rules {
		rules = append(rules, fmt.Sprintf("%s %.0f ms", r.Name, r.MS))
	}
	if len(rules) > 0 {
		l.say("  rules that decided: %s", strings.Join(rules, ", "))
	}
}
