package fsm

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/internal/pg"
)

// TestStories plays testdata/apply. Each file is one cluster from Init on; the ids of its members are their names.
//
//	init members=(n1,n2) witnesses=(w1) durability=async
//	appoint n2 seals=(n1:7:800:750) positions=(n2:1:0/20:7) release=n1:7:1:0/20 tli=2 at=0/20
//	    seal is node:epoch:left:waited in ms; position node:timeline:lsn:detached; release node:epoch:timeline:lsn;
//	    epoch= is the present one unless given
//	promoted n2 tli=2 at=0/20 parent=1 system=77
//	sync (n1,n2) copies=2 promise=n1      with rev= of the promise in promised=
//	failover w to=n2 knowing=(n2:1:0/20:7) release=...    knowing: the loss that these logs mean is accepted
//	voters (n1,n2)  member n4  ask w to=n2  begin w to=n2  end w  pause  resume
//	state   orders n2      a history is told as epoch node timeline<parent@switch, with ! if it was opened and ? if commits may be lost
//
// Every command takes rev= (default: the present one) and id= (default: a new one).
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata/apply", func(t *testing.T, path string) {
		var s State
		ids := 0
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			l := line{t, d, s}
			switch d.Cmd {
			case "state":
				return describeState(s)
			case "orders":
				return describeOrders(s.OrdersFor(NodeID(l.first())))
			}
			ids++
			e := Envelope{ID: l.text("id", fmt.Sprint("r", ids)), IfRev: uint64(l.number("rev", int(s.Rev))), By: "story", Change: l.command()}
			next, err := s.Apply(e)
			if err != nil {
				return "refused: " + err.Error() + "\n"
			}
			s = next
			return fmt.Sprintf("rev %d version %d: %s\n", s.Rev, s.Version, s.Events[len(s.Events)-1].Text)
		})
	})
}

func describeState(s State) string {
	wish := "none"
	if s.Wish != nil {
		wish = fmt.Sprintf("%s %s to %s in epoch %d, approved %t", s.Wish.Kind, s.Wish.ID, s.target(s.Wish.To), s.Wish.Epoch, s.Wish.Approved)
	}
	return fmt.Sprintf("epoch %d, primary %s, paused %t\nvoters %s (version %d)\ncommits on %s\nlineage %s\nwish %s\n", s.Epoch, s.Name(s.Primary), s.Paused,
		strings.Join(s.Names(s.Electorate.Voters), " "), s.Electorate.Version, s.describe(s.Sync), lineageText(s), wish)
}

func describeOrders(o Orders) string {
	return fmt.Sprintf("%s in epoch %d, follows %q, timeline %d, waits for %d of %v\n", o.Role, o.Epoch, o.Upstream.Name, o.Lineage.Timeline, o.WaitCount, o.WaitFor)
}

// line reads the arguments of one command of a story.
type line struct {
	t *testing.T
	d *datadriven.TestData
	s State
}

func (l line) first() string { return l.d.CmdArgs[0].Key }

func (l line) text(key, otherwise string) string {
	if arg, ok := l.d.Arg(key); ok {
		return arg.SingleVal(l.t)
	}
	return otherwise
}

func (l line) number(key string, otherwise int) int {
	n, err := strconv.Atoi(l.text(key, strconv.Itoa(otherwise)))
	if err != nil {
		l.d.Fatalf(l.t, "%s: %v", key, err)
	}
	return n
}

func (l line) lsn(text string) pg.LSN {
	lsn, err := pg.ParseLSN(text)
	if err != nil {
		l.d.Fatalf(l.t, "%v", err)
	}
	return lsn
}

// parts splits "a:b:c" and demands n parts.
func (l line) parts(text string, n int) []string {
	parts := strings.Split(text, ":")
	if len(parts) != n {
		l.d.Fatalf(l.t, "%s has %d parts, not %d", text, len(parts), n)
	}
	return parts
}

func (l line) int(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		l.d.Fatalf(l.t, "%v", err)
	}
	return n
}

func (l line) list(key string) []string {
	if arg, ok := l.d.Arg(key); ok {
		return arg.Vals
	}
	return nil
}

func (l line) ids(key string) []NodeID {
	var ids []NodeID
	for _, v := range l.list(key) {
		ids = append(ids, NodeID(v))
	}
	return ids
}

func (l line) command() Command {
	switch l.d.Cmd {
	case "init":
		return l.init()
	case "appoint":
		return Appoint{IfEpoch: Epoch(l.number("epoch", int(l.s.Epoch))), Node: NodeID(l.first()), Evidence: l.evidence("positions"),
			Timeline: pg.Timeline(l.number("tli", 0)), SwitchLSN: l.lsn(l.text("at", "0/0"))}
	case "promoted":
		return Promoted{Epoch: Epoch(l.number("epoch", int(l.s.Epoch))), Node: NodeID(l.first()), Timeline: pg.Timeline(l.number("tli", 0)),
			Parent: pg.Timeline(l.number("parent", 0)), SwitchLSN: l.lsn(l.text("at", "0/0")), SystemID: pg.SystemID(l.number("system", 0))}
	case "sync":
		c := SetSync{Rule: SyncRule{Members: l.ids("members"), Copies: l.number("copies", 0)}}
		if by := l.text("promise", ""); by != "" {
			c.Promise = &Promise{Node: NodeID(by), Rev: uint64(l.number("promised", int(l.s.Rev))), Rule: c.Rule}
		}
		return c
	case "voters":
		return SetElectorate{Voters: l.ids("are")}
	case "member":
		m := dataMember(l.first())
		m.Name, m.Leaving = l.text("name", m.Name), l.d.HasArg("leaving")
		return SetMember{Member: m}
	case "remove":
		return RemoveMember{ID: NodeID(l.first())}
	case "ask":
		return AskSwitchover{ID: l.first(), To: NodeID(l.text("to", ""))}
	case "failover":
		c := AskFailover{ID: l.first(), To: NodeID(l.text("to", "")), Epoch: Epoch(l.number("epoch", int(l.s.Epoch)))}
		if l.d.HasArg("knowing") {
			known := l.evidence("knowing").Positions
			if r := l.evidence("knowing").Release; r != nil {
				known = append(known, Position{Node: r.Node, Timeline: r.Timeline, LSN: r.FinalLSN})
			}
			c.Loss = LossToken(l.s.ClusterID, c.Epoch, c.To, known)
		}
		return c
	case "begin":
		return BeginSwitchover{ID: l.first(), To: NodeID(l.text("to", ""))}
	case "end":
		return EndWish{ID: l.first(), Because: l.text("because", "")}
	case "pause":
		return Pause{}
	case "resume":
		return Resume{Down: NodeID(l.text("down", "")), Epoch: Epoch(l.number("epoch", 0))}
	case "shown":
		return ResumeShown{Rev: uint64(l.number("of", 0))}
	}
	l.d.Fatalf(l.t, "unknown command %s", l.d.Cmd)
	return nil
}

func (l line) init() Command {
	var members []Member
	for _, name := range l.list("members") {
		members = append(members, dataMember(name))
	}
	for _, name := range l.list("witnesses") {
		members = append(members, Member{ID: NodeID(name), Name: name, Role: RoleWitness})
	}
	return initOf(Durability(l.text("durability", string(DurabilityQuorum))), members...)
}

func (l line) evidence(positions string) Evidence {
	var e Evidence
	for _, text := range l.list("seals") {
		p := l.parts(text, 4)
		e.Seals = append(e.Seals, seal(NodeID(p[0]), Epoch(l.int(p[1])), l.int(p[2]), l.int(p[3])))
	}
	for _, text := range l.list(positions) {
		p := l.parts(text, 4)
		e.Positions = append(e.Positions, at(NodeID(p[0]), Epoch(l.int(p[3])), pg.Timeline(l.int(p[1])), l.lsn(p[2])))
	}
	if text := l.text("release", ""); text != "" {
		p := l.parts(text, 4)
		e.Release = &Release{Node: NodeID(p[0]), Epoch: Epoch(l.int(p[1])), Timeline: pg.Timeline(l.int(p[2])), FinalLSN: l.lsn(p[3])}
	}
	return e
}
