package api

import (
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// advice says what to do now about an assignment, in the words of who is on call. Evidence that nobody looked at stays to be
// looked at; all else concerns only the present epoch.
func (f facts) advice(a Assignment, r fsm.Failover) []string {
	var out []string
	for _, d := range a.Discards {
		if !d.Dismissed {
			out = append(out, lookAt(d))
		}
	}
	if a.Epoch == f.state.Epoch {
		out = append(out, f.present(a, r)...)
	}
	if len(out) == 0 {
		return []string{"Nothing."}
	}
	return out
}

func lookAt(d Discard) string {
	if d.Way == "quarantine" {
		held := ""
		if d.Lossy {
			held = " It may hold acknowledged commits that are nowhere else: have them taken back."
		}
		return fmt.Sprintf("A data directory of %s was set aside as %s, not to be run again: its file QUARANTINE says why.%s Find out how it came to that, then: quorate discards dismiss %s",
			d.Node, d.Path, held, d.ID)
	}
	commits := counted(d.Commits)
	if d.Lossy {
		return fmt.Sprintf("Look at %s on %s: %s there may have been acknowledged and are not in the cluster. Have their owner take back what is missing, then: quorate discards dismiss %s",
			d.Path, d.Node, commits, d.ID)
	}
	return fmt.Sprintf("%s of %s were discarded; nobody had been told that they are done. They are kept in %s on %s. Look at them, then: quorate discards dismiss %s",
		upperFirst(commits), d.Node, d.Path, d.Node, d.ID)
}

func counted(commits int) string {
	switch {
	case commits < 0:
		return "commits (not counted)"
	case commits == 1:
		return "1 commit"
	}
	return fmt.Sprintf("%d commits", commits)
}

func upperFirst(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// present is what the present epoch needs.
func (f facts) present(a Assignment, r fsm.Failover) []string {
	var out []string
	p, heard := f.report(f.state.Primary)
	switch {
	case !heard:
		out = append(out, fmt.Sprintf("%s is not heard: see quorate explain.", a.To))
	case p.Serving != f.state.Epoch:
		out = append(out, fmt.Sprintf("%s does not accept writes: quorate explain says what it waits for.", a.To))
	}
	ids := make([]fsm.NodeID, 0, len(f.state.Members))
	for id := range f.state.Members {
		if id != f.state.Primary {
			ids = append(ids, id)
		}
	}
	slices.SortFunc(ids, func(x, y fsm.NodeID) int { return strings.Compare(f.state.Name(x), f.state.Name(y)) })
	for _, id := range ids {
		if text := f.need(id, p, r.Async && id == r.From); text != "" {
			out = append(out, text)
		}
	}
	if a.Kind == KindFailover && len(out) == 0 {
		out = append(out, fmt.Sprintf("Nothing is urgent. Find out what was the matter with %s: its log around %s says.", a.From, orThen(a.At)))
	}
	if a.Rule == "re-appoint" && len(out) == 0 {
		out = append(out, fmt.Sprintf("Nothing. If it happens often, look at the load and the network of %s, or raise failover_after.", a.To))
	}
	return out
}

func orThen(at string) string {
	if at == "" {
		return "that time"
	}
	return at
}

// need is what one node other than the primary needs; empty for nothing. only: it may hold what nobody else has.
func (f facts) need(id fsm.NodeID, primary failover.Report, only bool) string {
	name, m := f.state.Name(id), f.state.Members[id]
	keep := ""
	if only {
		keep = " Do not wipe it: it may have acknowledged commits that nobody else has."
	}
	r, heard := f.report(id)
	streams := slices.ContainsFunc(primary.Streaming, func(s failover.StreamingMember) bool { return s.Node == id })
	switch {
	case !heard:
		since := "it was never heard here"
		if s, ok := f.seen[id]; ok {
			since = "last heard " + ago(s.Age.Milliseconds()) + " ago"
		}
		return fmt.Sprintf("Bring %s back (%s): start its host, then its daemon. It rejoins by itself.%s", name, since, keep)
	case onDisk(r.Problem):
		return fmt.Sprintf("Look at the disk of %s: %s.%s", name, r.Problem, keep)
	case r.Problem != "":
		return fmt.Sprintf("Look at %s: %s.%s", name, r.Problem, keep)
	case r.Progress != "":
		return fmt.Sprintf("Wait for %s: %s.%s", name, r.Progress, keep)
	case m.Role == fsm.RoleData && !streams:
		return fmt.Sprintf("Wait for %s: it is up and does not stream yet.%s", name, keep)
	}
	return ""
}

// onDisk says whether a problem reads as one of a disk.
func onDisk(problem string) bool {
	text := strings.ToLower(problem)
	for _, word := range []string{"disk", "no space", "read-only file system", "input/output error"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}
