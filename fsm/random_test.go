package fsm

import (
	"bytes"
	"fmt"
	"math/rand"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// dice makes commands out of small domains, so that most are refused and enough are not.
type dice struct{ *rand.Rand }

func (d dice) node() NodeID     { return NodeID(pick(d, "n1", "n2", "n3", "n4", "w1", "n9", "")) }
func (d dice) epoch() Epoch     { return Epoch(d.Intn(6)) }
func (d dice) tli() pg.Timeline { return pg.Timeline(d.Intn(9)) }
func (d dice) lsn() pg.LSN      { return pg.LSN(d.Intn(4)) }

func pick[T any](d dice, of ...T) T { return of[d.Intn(len(of))] }

func (d dice) nodes() []NodeID {
	var list []NodeID
	for range d.Intn(5) {
		list = append(list, d.node())
	}
	return list
}

func (d dice) rule() SyncRule { return SyncRule{Members: d.nodes(), Copies: d.Intn(4)} }

func (d dice) member() Member {
	id := d.node()
	return Member{ID: id, Name: string(id), Role: pick(d, RoleData, RoleData, RoleWitness, ""), NoVote: d.Intn(3) == 0, NoFailover: d.Intn(4) == 0}
}

func (d dice) evidence(s State) Evidence {
	var e Evidence
	if d.Intn(3) == 0 {
		e.Release = &Release{Epoch: d.epoch(), Node: d.node(), Timeline: d.tli(), FinalLSN: d.lsn()}
	}
	for _, id := range d.nodes() {
		e.Seals = append(e.Seals, seal(id, d.epoch(), int64(d.Intn(3)), int64(d.Intn(3))))
	}
	for _, id := range d.nodes() {
		e.Positions = append(e.Positions, at(id, d.epoch(), d.tli(), d.lsn()))
	}
	if d.Intn(3) > 0 { // the evidence of an honest leader
		e = Evidence{}
		for _, id := range []NodeID{"n1", "n2", "n3", "n4"} {
			e.Seals = append(e.Seals, seal(id, s.Epoch, 0, 0))
			if id != s.Primary && len(s.Members[id].Name) > 0 {
				e.Positions = append(e.Positions, at(id, s.Epoch, max(1, s.lastLineage().Parent), d.lsn()+1))
			}
		}
	}
	return e
}

func (d dice) command(s State) Command {
	switch d.Intn(15) {
	case 0:
		return Init{ClusterID: pick(d, "c1", ""), Scope: "demo", Members: []Member{dataMember("n1"), dataMember("n2"), dataMember("n3"), d.member()},
			Config: Config{Settings: Settings{FailoverAfterMS: 1000, Durability: pick(d, DurabilityQuorum, DurabilityQuorum, DurabilityAsync)}}}
	case 1, 2, 3:
		return Appoint{IfEpoch: pick(d, s.Epoch, s.Epoch, d.epoch()), Node: d.node(), Evidence: d.evidence(s), Timeline: s.lastLineage().Timeline + d.tli(), SwitchLSN: d.lsn()}
	case 4:
		return Promoted{Epoch: s.Epoch, Node: s.Primary, Timeline: s.lastLineage().Timeline + pg.Timeline(d.Intn(2)), Parent: d.tli(), SwitchLSN: d.lsn(), SystemID: pg.SystemID(d.Intn(2))}
	case 5, 6:
		r := d.rule()
		if next, ok := NextSync(s.Sync, SyncFacts{Primary: s.Primary, Settings: s.Config.Settings, CaughtUp: d.nodes()}); ok && d.Intn(2) == 0 {
			r = next.To
		}
		return SetSync{Rule: r, Promise: pick(d, nil, &Promise{Node: pick(d, s.Primary, d.node()), Rev: pick(d, s.Rev, s.Rev, 3), Rule: pick(d, r, d.rule())})}
	case 7:
		return SetElectorate{Voters: pick(d, d.nodes(), append(d.nodes(), s.Electorate.Voters...))}
	case 8:
		return SetMember{Member: d.member()}
	case 9:
		return pick[Command](d, AskSwitchover{ID: pick(d, "w1", "w2"), To: d.node()},
			AskFailover{ID: pick(d, "w1", "w2"), To: d.node(), Epoch: pick(d, s.Epoch, d.epoch()), Loss: pick(d, "", "00ff")})
	case 10:
		return BeginSwitchover{ID: pick(d, "w1", "w2"), To: d.node()}
	case 12:
		return EditConfig{IfVersion: pick(d, s.Config.Version, 2), Doc: pick(d, "a", "b"), Settings: pick(d, s.Config.Settings, Settings{FailoverAfterMS: 2000, Durability: DurabilityAsync})}
	case 13:
		return d.record()
	case 11:
		return pick[Command](d, EndWish{ID: pick(d, "w1", "w2")}, Pause{})
	}
	return Resume{}
}

// record makes one of the commands that only file something.
func (d dice) record() Command {
	one := discard(pick(d, "d1", "d2", "d3", ""))
	one.Node = d.node()
	return pick[Command](d, RecordDiscard{Discard: one}, DismissDiscard{ID: pick(d, "d1", "d4")},
		RecordFailover{Failover: Failover{Epoch: d.epoch(), Rule: "best-standby", Phases: []Phase{{Name: pick(d, "silent", ""), MS: int64(d.Intn(9))}}}})
}

// Any stream of commands gives every node the same bytes, whether it applied them all, came back from its disk in the
// middle, or got them over the wire; refused ones change nothing; and what the other parts rely on holds after each.
func TestRandomStreams(t *testing.T) {
	applied := map[string]int{}
	for seed := range int64(15) {
		d := dice{rand.New(rand.NewSource(seed))}
		var a, b State
		for i := range 250 {
			c := d.command(a)
			e := Envelope{ID: fmt.Sprint("r", d.Intn(400)), IfRev: pick(d, a.Rev, a.Rev, a.Rev, uint64(d.Intn(9))), By: "dice", Wall: int64(i), Change: c}
			nextA, errA := a.Apply(e)
			nextB, errB := applyFromWire(t, b, e)
			if fmt.Sprint(errA) != fmt.Sprint(errB) {
				t.Fatalf("seed %d, step %d, %#v: %v and %v", seed, i, c, errA, errB)
			}
			bytesA := encoded(t, nextA)
			if !bytes.Equal(bytesA, encoded(t, nextB)) {
				t.Fatalf("seed %d, step %d, %#v: two nodes differ\n%s\n%s", seed, i, c, bytesA, encoded(t, nextB))
			}
			if errA != nil && !bytes.Equal(bytesA, encoded(t, a)) {
				t.Fatalf("seed %d, step %d, %#v: refused, but changed something", seed, i, c)
			}
			if errA == nil {
				applied[c.Kind()]++
				checkStep(t, a, nextA, c)
			}
			a, b = nextA, nextB
		}
	}
	for kind := range commands(State{}) {
		if applied[kind] == 0 {
			t.Errorf("no %s was ever applied", kind)
		}
	}
}

// applyFromWire is Apply on a node that restarted just before and read the command from its log.
func applyFromWire(t *testing.T, s State, e Envelope) (State, error) {
	t.Helper()
	s, err := DecodeState(encoded(t, s))
	if err != nil {
		t.Fatal(err)
	}
	wire, err := EncodeCommand(e)
	if err != nil {
		t.Fatal(err)
	}
	back, err := DecodeCommand(wire)
	if err != nil {
		t.Fatal(err)
	}
	return s.Apply(back)
}

// checkStep holds what must be true between a state and its successor.
func checkStep(t testing.TB, before, after State, c Command) {
	t.Helper()
	fail := func(what string) { t.Helper(); t.Fatalf("%s after %#v: %+v", what, c, after) }
	if after.Epoch < before.Epoch || after.Epoch > before.Epoch+1 || len(after.Lineage) != int(after.Epoch) {
		fail("epochs do not count one by one")
	}
	if (after.Primary != before.Primary) && after.Epoch == before.Epoch {
		fail("two primaries of one epoch")
	}
	if _, reappointed := c.(Appoint); reappointed && before.Epoch > 0 && !after.Sync.Equal(before.Sync) {
		fail("an appointment changed R")
	}
	if before.Paused && after.Primary != before.Primary {
		fail("a paused cluster replaced its primary")
	}
	if after.Epoch > 0 && len(after.Sync.Members) > 0 && !after.Sync.Has(after.Primary) {
		fail("D without the primary")
	}
	if k := after.Sync.Copies; k > len(after.Sync.Members) || k < 1 && len(after.Sync.Members) > 0 {
		fail("impossible K")
	}
	for i := 1; i < len(after.Lineage); i++ {
		if after.Lineage[i].Timeline < after.Lineage[i-1].Timeline {
			fail("timelines do not grow")
		}
	}
	if len(after.Electorate.Voters) == 0 || len(after.Events) > maxEvents || len(after.Seen) > maxSeen || len(after.Discards) > maxDiscards ||
		len(after.Failovers) > MaxFailovers || len(after.Config.Earlier) > maxConfigs {
		fail("a bound is broken")
	}
	for _, l := range after.Lineage {
		if _, ok := after.LineageHistory(l.Timeline); !ok {
			fail("a timeline without history")
		}
	}
}
