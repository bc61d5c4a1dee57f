package cluster

import (
	"encoding/json"
	"errors"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/transport"
)

// asked is a node to which bodies are given without a network. Raft does not run there: what would write to the log ends with
// errNotRunning, and that is how what is let through is told from what is refused.
type asked struct {
	*Cluster
	calls   map[string]transport.Handler
	stopped *[]fsm.Epoch
}

// twoMembers is how such a node's cluster begins.
func twoMembers() fsm.Init {
	init := testInit()
	init.Members = []fsm.Member{
		{ID: "id1", Name: "n1", Role: fsm.RoleData, Addr: "n1:7400", Postgres: "n1:5432"},
		{ID: "id2", Name: "n2", Role: fsm.RoleData, Addr: "n2:7400", Postgres: "n2:5432"},
	}
	return init
}

// newAsked is the node id, a member when there is a state: then it is primary of epoch 1 if it is id1.
func newAsked(t testing.TB, dir string, id fsm.NodeID, s fsm.State, credentials *transport.Credentials) asked {
	own := twoMembers().Members[slices.IndexFunc(twoMembers().Members, func(m fsm.Member) bool { return m.ID == id })]
	who := identity{NodeID: id}
	if s.ClusterID != "" {
		who.Founding = &founding{First: "id1", Init: twoMembers()}
	}
	var stopped []fsm.Epoch
	c := &Cluster{
		cfg: Config{Scope: "test", Member: own, Peers: []string{"n1:7400", "n2:7400"}, Settings: fsm.Settings{FailoverAfterMS: 1000}},
		deps: Deps{
			Boot:      func() time.Duration { return time.Hour },
			DataFacts: func() DataFacts { return DataFacts{Empty: true} },
			StopSick:  func(e fsm.Epoch) error { stopped = append(stopped, e); return nil },
			Exit:      func(reason string) { t.Fatalf("a body made the process end: %s", reason) },
		},
		log: hclog.NewNullLogger(), credentials: credentials, membership: make(chan struct{}, 1),
		identity:  &identityStore{path: filepath.Join(dir, identityFile), current: who, learned: make(chan struct{})},
		machine:   &machine{index: 3, state: s},
		published: &publisher{index: 3, state: s},
	}
	c.report.Store(&failover.Report{Run: failover.RunNone})
	c.secrets.Store(&[]transport.Secret{})
	c.loop = lead.New(lead.Config{
		Self: id, First: c.first, Boot: c.deps.Boot, Sightings: c.Sightings, Beat: beatEvery, Logger: c.log,
	}, loopConsensus{c}, remoteVoters{c})
	return asked{c, c.handlers(), &stopped}
}

// takes is what a call lets through: it looks at a body that was not refused, and says what is wrong with that.
type takes func(a asked, peer transport.Peer, body, answer []byte) string

// routes says of each call whether only members may make it, and what it may let through.
func routes() map[string]struct {
	members bool
	takes   takes
} {
	type route = struct {
		members bool
		takes   takes
	}
	return map[string]route{
		callHello: {false, takesAnything}, callExplain: {true, takesAnything}, callForm: {false, takesFounding},
		callJoin: {false, takesJoin}, callStanding: {false, takesStanding}, callMoved: {false, takesMove},
		callRemove: {true, takesRemoval}, callSubmit: {true, takesCommand}, callStop: {true, takesStop},
		callAsk: {true, takesEpoch}, callSeal: {true, takesEpoch}, callDetach: {true, takesEpoch},
	}
}

func takesAnything(_ asked, _ transport.Peer, _, answer []byte) string {
	if !json.Valid(answer) {
		return "an answer that is no JSON"
	}
	return ""
}

func takesEpoch(_ asked, _ transport.Peer, body, _ []byte) string {
	var req epochRequest
	if json.Unmarshal(body, &req) != nil {
		return "an epoch that can't be read"
	}
	return ""
}

// takesFounding: what goes to the disk is what was sent, by its first node, and a cluster can begin with it.
func takesFounding(a asked, peer transport.Peer, body, _ []byte) string {
	var req formRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return err.Error()
	}
	f := a.identity.get().Founding
	switch {
	case f == nil, f.First != fsm.NodeID(peer.NodeID), f.Init.ClusterID != peer.ClusterID, !f.member(a.Self()):
		return "the founding of somebody else"
	case req.Founding.Init.ClusterID != f.Init.ClusterID, millis(f.Init.Config.Settings.FailoverAfterMS) != time.Second:
		return "another founding"
	}
	if _, err := (fsm.State{}).Apply(fsm.Envelope{ID: "init", Change: f.Init}); err != nil {
		return err.Error()
	}
	return ""
}

// takesJoin: a stranger speaks for himself. Who is let in is added, or takes the place of what he was, and nobody else is touched.
func takesJoin(a asked, peer transport.Peer, body, _ []byte) string {
	var req JoinRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return err.Error()
	}
	if !a.isMember(peer) && req.Member.ID != fsm.NodeID(peer.NodeID) {
		return "a node in the name of another"
	}
	_, s := a.newest()
	displaced, err := standing{s, func(fsm.NodeID) bool { return false }}.judgeJoin(req)
	if err != nil {
		return unsaid(err)
	}
	if displaced != nil && (displaced.ID == s.Primary || displaced.Name != req.Member.Name || !req.Replace) {
		return "in the place of " + displaced.Name
	}
	if displaced != nil {
		return ""
	}
	return changesOnly(s, req.Member)
}

// takesMove: a member changes where it is and its tags, and nothing else, and nobody else.
func takesMove(a asked, peer transport.Peer, body, _ []byte) string {
	var to movedRequest
	if err := json.Unmarshal(body, &to); err != nil {
		return err.Error()
	}
	_, s := a.newest()
	m, known := s.Members[fsm.NodeID(peer.NodeID)]
	if now := to.of(m); !known || now.ID != m.ID || now.Name != m.Name || now.Role != m.Role || now.Leaving != m.Leaving {
		return "more than addresses and tags"
	}
	return changesOnly(s, to.of(m))
}

// changesOnly says what is wrong if the state takes m and more changes than m.
func changesOnly(s fsm.State, m fsm.Member) string {
	next, err := s.Apply(fsm.Envelope{ID: "x", Change: fsm.SetMember{Member: m}})
	if err != nil {
		return unsaid(err)
	}
	others := maps.Clone(next.Members)
	before := maps.Clone(s.Members)
	delete(others, m.ID)
	delete(before, m.ID)
	if next.Primary != s.Primary || next.Epoch != s.Epoch || !reflect.DeepEqual(others, before) {
		return "a change of others than " + m.Name
	}
	return ""
}

func unsaid(err error) string {
	if strings.TrimSpace(err.Error()) == "" {
		return "a refusal that says nothing"
	}
	return ""
}

func takesStanding(a asked, peer transport.Peer, body, answer []byte) string {
	var req standingRequest
	var said standingAnswer
	if err := errors.Join(json.Unmarshal(body, &req), json.Unmarshal(answer, &said)); err != nil {
		return err.Error()
	}
	_, s := a.newest()
	if _, member := s.Members[req.Node]; said.Member != member || said.Version != s.Version || peer.ClusterID != a.ClusterID() {
		return "a wrong answer"
	}
	return ""
}

// takesRemoval: nobody takes the primary out.
func takesRemoval(a asked, _ transport.Peer, body, _ []byte) string {
	var req Removal
	if err := json.Unmarshal(body, &req); err != nil {
		return err.Error()
	}
	_, s := a.newest()
	for _, alive := range []bool{true, false} {
		st := standing{s, func(fsm.NodeID) bool { return alive }}
		if err := st.judgeRemoval(req); err != nil {
			if problem := unsaid(err); problem != "" {
				return problem
			}
		} else if m, known := st.named(req.Name); !known || m.ID == s.Primary {
			return "the removal of " + req.Name
		}
	}
	return ""
}

// takesCommand: what goes into the log is what was sent.
func takesCommand(_ asked, _ transport.Peer, body, _ []byte) string {
	env, err := fsm.DecodeCommand(body)
	if err != nil {
		return err.Error()
	}
	raw, err := fsm.EncodeCommand(env)
	if err != nil {
		return err.Error()
	}
	if again, err := fsm.DecodeCommand(raw); err != nil || !reflect.DeepEqual(again, env) {
		return "another command than it will be"
	}
	return ""
}

// takesStop: only what serves that very epoch is killed.
func takesStop(a asked, _ transport.Peer, body, _ []byte) string {
	var req epochRequest
	if err := json.Unmarshal(body, &req); err != nil {
		return err.Error()
	}
	if _, s := a.newest(); s.Epoch != req.Epoch || s.Primary != a.Self() || !slices.Equal(*a.stopped, []fsm.Epoch{req.Epoch}) {
		return "an order for another epoch"
	}
	return ""
}

// went says that a call was not refused by what it said: it was done, or only Raft and the beats are not there to do it.
func went(err error) bool {
	err = fromWire(err)
	return err == nil || errors.Is(err, errNotRunning) || errors.Is(err, ErrNotMember)
}

// askers are members, strangers and a node of another cluster.
func askers() []transport.Peer {
	return []transport.Peer{
		{ClusterID: "c1", NodeID: "id2"}, {ClusterID: "c1", NodeID: "id1"}, {ClusterID: "c1", NodeID: "id9"},
		{ClusterID: transport.NewCluster, NodeID: "id9", Names: []string{"n9"}},
		{ClusterID: "c2", NodeID: "id2"}, {ClusterID: "c2", NodeID: "id1"},
	}
}

// askedNodes makes the primary of a cluster of two and a node that belongs to none yet, which the first of its list may found.
func askedNodes(t testing.TB) []func() asked {
	t.Helper()
	began, err := fsm.State{}.Apply(fsm.Envelope{ID: "init", Change: twoMembers()})
	if err != nil {
		t.Fatal(err)
	}
	began.Epoch, began.Primary, began.SystemID = 1, "id1", pg.SystemID(7)
	credentials, err := transport.Insecure("test", "id2") // dear to make, and only a founding sets anything in them
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return []func() asked{
		func() asked { return newAsked(t, dir, "id1", began, credentials) },
		func() asked { return newAsked(t, dir, "id2", fsm.State{}, credentials) },
	}
}

// TestEveryCallIsAsked: each lets through something that the fuzz target begins with, else that would look at refusals only.
func TestEveryCallIsAsked(t *testing.T) {
	nodes, table, through := askedNodes(t), routes(), map[string]bool{}
	for _, body := range requestSeeds(t) {
		for _, node := range nodes {
			for name := range node().calls {
				for _, peer := range askers() {
					a := node()
					_, err := a.calls[name](t.Context(), peer, body)
					through[name] = through[name] || went(err)
				}
			}
		}
	}
	for name, went := range through {
		if !went || table[name].takes == nil {
			t.Errorf("call %s: something went through %t, and it is known what may: %t", name, went, table[name].takes != nil)
		}
	}
}

// Whatever members and strangers send with any call: nothing panics, who is no member is refused what only members may, a refusal
// says why and has changed nothing, and what is let through is what was sent and no more than the call is for.
func FuzzRequests(f *testing.F) {
	for _, body := range requestSeeds(f) {
		f.Add(body)
	}
	nodes, peers, table := askedNodes(f), askers(), routes()
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, node := range nodes {
			for name := range table {
				for _, peer := range peers {
					tryRequest(t, node(), name, peer, body)
				}
			}
		}
	})
}

// tryRequest asks a node that nobody asked before.
func tryRequest(t *testing.T, a asked, name string, peer transport.Peer, body []byte) {
	t.Helper()
	before, route := a.identity.get(), routes()[name]
	answer, err := a.calls[name](t.Context(), peer, body)
	if err != nil && (unsaid(err) != "" || !reflect.DeepEqual(a.identity.get(), before) || len(*a.stopped) > 0) {
		t.Fatalf("%s from %+v with %q is refused (%v), and not without a trace: %+v", name, peer, body, err, a.identity.get())
	}
	if route.members && !a.isMember(peer) && !errors.Is(fromWire(err), ErrOtherCluster) {
		t.Fatalf("%s from %+v, who is no member: %q, %v", name, peer, answer, err)
	}
	if !went(err) {
		return
	}
	if problem := route.takes(a, peer, body, answer); problem != "" {
		t.Fatalf("%s from %+v with %q lets through %s", name, peer, body, problem)
	}
}

// requestSeeds are a body of each call that goes through, and what is nearly one.
func requestSeeds(f testing.TB) [][]byte {
	f.Helper()
	member := fsm.Member{ID: "id9", Name: "n9", Role: fsm.RoleData, Addr: "n9:7400", Postgres: "n9:5432"}
	replacing := JoinRequest{ClusterID: "c1", Member: member, Data: DataFacts{Empty: true}, Replace: true}
	replacing.Member.Name = "n2"
	command, err := fsm.EncodeCommand(fsm.Envelope{ID: "x", Change: fsm.Pause{}})
	if err != nil {
		f.Fatal(err)
	}
	form := formRequest{Founding: founding{First: "id1", Init: twoMembers(), Seed: transport.GenerateSecret().Hex()}}
	return [][]byte{
		mustJSON(f, struct{}{}), mustJSON(f, form), mustJSON(f, replacing), command,
		mustJSON(f, JoinRequest{ClusterID: "c1", Member: member, Data: DataFacts{Empty: true}}),
		mustJSON(f, standingRequest{Node: "id2"}), mustJSON(f, movedRequest{Addr: "n2:7401", Postgres: "n2:5432"}),
		mustJSON(f, Removal{Name: "n2", LastCopy: true}),
		mustJSON(f, Removal{Name: "n1", LastCopy: true}), mustJSON(f, epochRequest{Epoch: 1}),
		[]byte(`{"founding":{"init":{"members":[]}}}`), []byte(`{"epoch":-1}`), []byte(`null`), nil,
	}
}
