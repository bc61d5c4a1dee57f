package failover

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// The rows that apply while the primary is in place: switchover, the leader's own place, the sync rule, health.

func wishPending(f *facts) bool { return f.State.Wish != nil }

// wishFault says why the wish cannot be carried out now: its candidate and what speaks against it.
func (f *facts) wishFault() (fsm.NodeID, string) {
	w := f.State.Wish
	to := w.To
	if to == "" {
		to = f.furthestStandby()
	}
	m, ok := f.State.Members[to]
	switch {
	case to == "":
		return to, "no standby streams from the primary"
	case !ok:
		return to, fmt.Sprintf("%s is not a member", to)
	case to == f.State.Primary:
		return to, m.Name + " is the primary already"
	case f.State.Electable(to) != nil:
		return to, m.Name + " is not electable"
	case len(f.State.Sync.Members) > 0 && !member(f.State.Sync.Members, to):
		return to, m.Name + " is not yet one of the nodes that hold every acknowledged commit"
	case f.logless(to):
		return to, m.Name + " " + f.noLog(to)
	}
	p := f.Seen[f.State.Primary].Report
	for _, s := range p.Streaming {
		if s.Node != to {
			continue
		}
		if l := lag(p.Flush, s.Flush); l > switchoverLag {
			return to, fmt.Sprintf("%s is %d bytes behind (limit %d)", m.Name, l, switchoverLag)
		}
		return to, ""
	}
	return to, m.Name + " does not stream from the primary"
}

func (f *facts) furthestStandby() fsm.NodeID {
	var best fsm.NodeID
	var at pg.LSN
	for _, s := range f.Seen[f.State.Primary].Report.Streaming {
		if f.State.Electable(s.Node) != nil || f.logless(s.Node) || (len(f.State.Sync.Members) > 0 && !member(f.State.Sync.Members, s.Node)) {
			continue
		}
		if best == "" || s.Flush > at || s.Flush == at && best == f.Self {
			best, at = s.Node, s.Flush
		}
	}
	return best
}

func wishVoid(f *facts) bool {
	w := f.State.Wish
	if w == nil {
		return false
	}
	if w.Epoch != f.State.Epoch {
		return true
	}
	if w.Approved {
		return f.WishAge > wishBox
	}
	_, fault := f.wishFault()
	return fault != "" && f.WishAge > wishPatience
}

func thenEndWish(f *facts) Decision {
	w := f.State.Wish
	why := fmt.Sprintf("it was made for epoch %d, now is epoch %d", w.Epoch, f.State.Epoch)
	if w.Epoch == f.State.Epoch {
		if _, why = f.wishFault(); why == "" {
			why = fmt.Sprintf("the primary did not hand over within %s", wishBox)
		}
	}
	return f.propose(fsm.EndWish{ID: w.ID, Because: why}, why)
}

// wishReady: a back-off holds it, too, because after the primary's release the failover itself would wait, with nobody
// serving.
func wishReady(f *facts) bool {
	if backoffLeft(f.Appointed) > 0 || f.State.Wish == nil || f.State.Wish.Approved || !f.primaryFresh || f.Seen[f.State.Primary].Report.Serving != f.State.Epoch {
		return false
	}
	_, fault := f.wishFault()
	return fault == ""
}

func thenBeginWish(f *facts) Decision {
	to, _ := f.wishFault()
	return f.propose(fsm.BeginSwitchover{ID: f.State.Wish.ID, To: to}, "candidate "+f.name(to))
}

// leaderOnPrimary: with the leader elsewhere a dead primary needs no election and a dead leader disturbs no writes. A
// promotion is let through first: moving the leadership in the middle of it would only slow it down.
func leaderOnPrimary(f *facts) bool {
	if notServing(f) && f.EpochAge < promotionBox {
		return false
	}
	return f.Leading && f.Self == f.State.Primary && f.heir() != ""
}

// heir is the voter that should lead instead: heard, caught up, a witness if there is one, lowest id. The loss of a standby
// then needs no election before commits can go on without its copy.
func (f *facts) heir() fsm.NodeID {
	heir := fsm.NodeID("")
	for _, id := range f.State.Electorate.Voters {
		s, heard := f.Seen[id]
		if id == f.Self || !heard || !f.fresh(s) || !f.CaughtUp[id] || !votes(f.State.Members[id]) {
			continue
		}
		if f.State.Members[id].Role == fsm.RoleWitness {
			return id
		}
		if heir == "" {
			heir = id
		}
	}
	return heir
}

// leaderDeaf: what the primary says of itself, above all a release, is acted on only by a leader that hears it. With the one
// link between the two cut neither Raft nor the silence of the primary moves anything.
func leaderDeaf(f *facts) bool {
	age, _ := f.ageAt(f.Self)
	return f.Leading && f.State.Epoch > 0 && f.Self != f.State.Primary && age > f.failoverAfter && f.listener() != ""
}

// listener is the caught-up voter with the lowest id that heard the primary just now.
func (f *facts) listener() fsm.NodeID {
	for _, id := range f.State.Electorate.Voters {
		age, ok := f.ageAt(id)
		if id != f.Self && id != f.State.Primary && ok && f.CaughtUp[id] && age <= beatsFresh*f.BeatEvery {
			return id
		}
	}
	return ""
}

func thenHandOffDeaf(f *facts) Decision {
	age, _ := f.ageAt(f.Self)
	to := f.listener()
	return Decision{Verdict: Acting, Do: HandOff{To: to}, Because: []string{
		fmt.Sprintf("%s leads and has not heard %s for %s; %s has", f.name(f.Self), f.name(f.State.Primary), age.Round(time.Millisecond), f.name(to)),
	}}
}

func thenHandOff(f *facts) Decision {
	to := f.heir()
	return Decision{Verdict: Acting, Do: HandOff{To: to}, Because: []string{f.name(f.Self) + " is primary and Raft leader; " + f.name(to) + " can lead"}}
}

// missing lists the members without a fresh healthy report, and the data nodes that should stream and do not.
func (f *facts) missing() []string {
	streams := map[fsm.NodeID]bool{f.State.Primary: true}
	for _, s := range f.Seen[f.State.Primary].Report.Streaming {
		streams[s.Node] = true
	}
	var out []string
	for _, id := range f.memberIDs() {
		m := f.State.Members[id]
		s, heard := f.Seen[id]
		switch {
		case m.Leaving:
		case !heard:
			out = append(out, m.Name+" has not been heard")
		case !f.fresh(s):
			out = append(out, fmt.Sprintf("%s was last heard %s ago", m.Name, s.Age.Round(time.Millisecond)))
		case f.logless(id):
			out = append(out, m.Name+" "+f.noLog(id))
		case m.Role == fsm.RoleData && s.Report.Problem != "":
			out = append(out, m.Name+": "+s.Report.Problem)
		case m.Role == fsm.RoleData && !streams[id]:
			out = append(out, m.Name+" does not stream from the primary")
		}
	}
	return out
}

func nodeMissing(f *facts) bool { return !notServing(f) && len(f.missing()) > 0 }

func thenAtRisk(f *facts) Decision {
	return Decision{Verdict: AtRisk, Do: Nothing{}, Because: f.missing()}
}

func notServing(f *facts) bool { return f.Seen[f.State.Primary].Report.Serving != f.State.Epoch }

// thenAwaitPrimary names the one thing that will not pass by itself: a primary that does not learn that it is.
func thenAwaitPrimary(f *facts) Decision {
	p := f.State.Primary
	if !f.logless(p) || f.Seen[p].Report.Epoch >= f.State.Epoch || f.replaceable() {
		return thenWait(f)
	}
	return Decision{Verdict: Stuck, Do: Nothing{}, Because: []string{
		f.name(p) + " does not learn of its appointment: it " + f.noLog(p),
		"nobody else is known to be able to take its place; " + mendTheWay,
		"if that can't be mended, stop quorate on " + f.name(p) + ": once it is silent its epoch is sealed, and it is said what would be lost without its log",
	}}
}

func thenHealthy(f *facts) Decision {
	return Decision{Verdict: Healthy, Do: Nothing{}, Because: []string{
		fmt.Sprintf("%s serves epoch %d; %s", f.name(f.State.Primary), f.State.Epoch, f.rule(f.State.Sync)),
	}}
}
