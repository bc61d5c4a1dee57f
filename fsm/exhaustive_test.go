package fsm

import (
	"errors"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// The evidence of an Appoint over three nodes, all of it within small bounds: every answer of every voter, every log of
// every node, every release and every sync rule. What is accepted must be safe by reasoning that knows nothing of how
// the machine checks it, and what is safe and complete must be accepted.

// epochNow is the epoch that is to end. Its history: timeline 1 in epochs 1 and 2 (n1), timeline 2 since epoch 3 (n1).
const epochNow = Epoch(3)

func exhaustiveState(t *testing.T, r SyncRule) State {
	s := three(t)
	s = must(t, s, Appoint{IfEpoch: 1, Node: "n1"}, Appoint{IfEpoch: 2, Node: "n1"}, Promoted{Epoch: 3, Node: "n1", Timeline: 2, SwitchLSN: 1})
	s.Sync = r // reached directly: the machine forbids some ways to these rules, but each is a legal rule
	return s
}

func answers(voter NodeID) []*Seal {
	short, stale, done, later := seal(voter, epochNow, 5, 4), seal(voter, epochNow-1, 0, 9), seal(voter, epochNow, 5, 5), seal(voter, epochNow+1, 0, 0)
	return []*Seal{nil, &short, &stale, &done, &later}
}

func releases() []*Release {
	list := []*Release{nil, {Epoch: epochNow - 1, Node: "n1", Timeline: 2, FinalLSN: 2}, {Epoch: epochNow, Node: "n2", Timeline: 2, FinalLSN: 2}, {Epoch: epochNow, Node: "n1"}}
	for _, tli := range []pg.Timeline{1, 2} {
		for _, lsn := range []pg.LSN{1, 2} {
			list = append(list, &Release{Epoch: epochNow, Node: "n1", Timeline: tli, FinalLSN: lsn})
		}
	}
	return list
}

func logs(node NodeID) []*Position {
	list := []*Position{nil}
	for _, detached := range []Epoch{epochNow - 1, epochNow} {
		for _, tli := range []pg.Timeline{1, 2} {
			for _, lsn := range []pg.LSN{1, 2} {
				p := at(node, detached, tli, lsn)
				list = append(list, &p)
			}
		}
	}
	return list
}

func evidenceOf(release *Release, seals []*Seal, positions []*Position) Evidence {
	e := Evidence{Release: release}
	for _, x := range seals {
		if x != nil {
			e.Seals = append(e.Seals, *x)
		}
	}
	for _, p := range positions {
		if p != nil {
			e.Positions = append(e.Positions, *p)
		}
	}
	return e
}

// Nobody is appointed while a majority of the electorate, whichever it is, could still vouch for the old primary, or a lease
// of it could still run, unless the old primary itself said that it is gone.
func TestExhaustiveNoSecondWriter(t *testing.T) {
	s := exhaustiveState(t, rule(2, "n1", "n2", "n3"))
	for _, voters := range [][]NodeID{{"n1", "n2", "n3"}, {"n1", "n2"}, {"n1", "n3"}, {"n2", "n3"}, {"n1"}, {"n2"}, {"n3"}} {
		s.Electorate.Voters = voters
		accepted := 0
		for _, release := range releases() {
			for _, a := range answers("n1") {
				for _, b := range answers("n2") {
					for _, c := range answers("n3") {
						e := evidenceOf(release, []*Seal{a, b, c}, []*Position{})
						p, q := at("n2", epochNow, 2, 2), at("n3", epochNow, 2, 1)
						e.Positions = []Position{p, q}
						_, err := try(s, Appoint{IfEpoch: epochNow, Node: "n2", Timeline: 3, SwitchLSN: 2, Evidence: e})
						free := couldStillVouch(voters, map[NodeID]*Seal{"n1": a, "n2": b, "n3": c})
						gone := release != nil && release.Node == "n1" && release.Epoch == epochNow
						safe := gone || release == nil && free <= len(voters)-len(voters)/2-1
						if safe != (err == nil) {
							t.Fatalf("voters %v, release %+v, seals %+v: %v", voters, release, e.Seals, err)
						}
						if err == nil {
							accepted++
						}
					}
				}
			}
		}
		if accepted == 0 {
			t.Fatalf("nothing was accepted under %v", voters)
		}
	}
}

// couldStillVouch counts the voters that may vouch for epochNow again, or whose last vouch for it may not have run out. The
// machine asks for a majority that can't; of an even number that is one more than it would take.
func couldStillVouch(voters []NodeID, seals map[NodeID]*Seal) int {
	free := 0
	for _, id := range voters {
		if x := seals[id]; x == nil || x.Epoch < epochNow || x.LeftMS > x.WaitedMS {
			free++
		}
	}
	return free
}

// No commit that K members of D may hold is missing from the log of who is appointed. A member that did not show its log,
// or showed it while it could still stream, may hold anything; a log holds a commit if it ends on a later timeline, or on
// the commit's own and not before it.
func TestExhaustiveNoLostCommit(t *testing.T) {
	rules := []SyncRule{rule(1, "n1"), rule(1, "n1", "n2"), rule(2, "n1", "n2"), rule(1, "n1", "n2", "n3"), rule(2, "n1", "n2", "n3"), rule(3, "n1", "n2", "n3")}
	accepted, complete := 0, 0
	for _, r := range rules {
		s := exhaustiveState(t, r)
		for _, release := range releases() {
			for _, a := range logs("n1") {
				for _, b := range logs("n2") {
					for _, c := range logs("n3") {
						for _, node := range []NodeID{"n2", "n3"} {
							e := evidenceOf(release, nil, []*Position{a, b, c})
							e.Seals = []Seal{seal("n2", epochNow, 0, 0), seal("n3", epochNow, 0, 0)}
							own := map[NodeID]*Position{"n2": b, "n3": c}[node]
							change := Appoint{IfEpoch: epochNow, Node: node, Timeline: 3, Evidence: e}
							if own != nil {
								change.SwitchLSN = own.LSN
							}
							next, err := try(s, change)
							if err != nil && !errors.Is(err, ErrEvidence) {
								t.Fatal(err)
							}
							shown := map[NodeID]*Position{"n1": released(release), "n2": settled(b), "n3": settled(c)}
							lost := couldLose(r, shown, node)
							if err == nil {
								accepted++
								if lost || !next.Sync.Equal(r) {
									t.Fatalf("rule %v, release %+v, logs %+v: %s was appointed, and a commit may be lost", r, release, e.Positions, node)
								}
							} else if !lost && wellFormed(release, a, b, c) && best(node, shown) && r.Has(node) {
								t.Fatalf("rule %v, release %+v, logs %+v: %s is safe, but: %v", r, release, e.Positions, node, err)
							}
							if err == nil && !lost && wellFormed(release, a, b, c) {
								complete++
							}
						}
					}
				}
			}
		}
	}
	if accepted == 0 || accepted != complete {
		t.Fatalf("%d accepted, %d of them of well-formed evidence", accepted, complete)
	}
}

// released is the old primary's log if it is known to be at its end.
func released(r *Release) *Position {
	if r == nil || r.Node != "n1" || r.Epoch != epochNow || r.FinalLSN == 0 {
		return nil
	}
	return &Position{Node: "n1", Timeline: r.Timeline, LSN: r.FinalLSN}
}

// settled is a standby's log if it can grow no more.
func settled(p *Position) *Position {
	if p == nil || p.Detached < epochNow {
		return nil
	}
	return p
}

func holds(p *Position, tli pg.Timeline, lsn pg.LSN) bool {
	return p.Timeline > tli || p.Timeline == tli && p.LSN >= lsn
}

func couldLose(r SyncRule, shown map[NodeID]*Position, appointed NodeID) bool {
	if shown[appointed] == nil {
		return true
	}
	for _, tli := range []pg.Timeline{1, 2} {
		for _, lsn := range []pg.LSN{1, 2, 3} {
			copies := 0
			for _, id := range r.Members {
				if p := shown[id]; p == nil || holds(p, tli, lsn) {
					copies++
				}
			}
			if copies >= r.Copies && !holds(shown[appointed], tli, lsn) {
				return true
			}
		}
	}
	return false
}

// best says that nobody showed a log beyond the node's.
func best(node NodeID, shown map[NodeID]*Position) bool {
	for _, p := range shown {
		if p != nil && !holds(shown[node], p.Timeline, p.LSN) {
			return false
		}
	}
	return true
}

// wellFormed says that the evidence contains nothing that an honest leader would leave out: a release of something else,
// a log that may still grow, the old primary's among them.
func wellFormed(release *Release, n1, n2, n3 *Position) bool {
	if n1 != nil && release == nil || n2 != nil && settled(n2) == nil || n3 != nil && settled(n3) == nil {
		return false
	}
	return release == nil || release.Node == "n1" && release.Epoch == epochNow
}
