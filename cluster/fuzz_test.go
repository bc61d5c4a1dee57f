package cluster

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// A token that is taken is written and read as the same. One that is not is never told.
func FuzzToken(f *testing.F) {
	secret, err := transport.NewSecret(bytes.Repeat([]byte{7}, transport.SecretSize))
	if err != nil {
		f.Fatal(err)
	}
	for _, secrets := range [][]transport.Secret{nil, {secret}} {
		made, err := NewToken("c1", "demo", []string{"10.0.0.1:7400", "10.0.0.2:7400"}, secrets)
		if err != nil {
			f.Fatal(err)
		}
		text, err := made.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
		f.Add(text[:len(text)-7])
		f.Add(text + text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if err != nil {
			body := strings.TrimPrefix(strings.TrimSpace(text), tokenMark)
			if !errors.Is(err, ErrToken) || len(body) >= 16 && strings.Contains(err.Error(), body) || !reflect.DeepEqual(token, Token{}) {
				t.Fatalf("%q: %+v, %v", text, token, err)
			}
			return
		}
		if token.ClusterID == "" || token.Scope == "" {
			t.Fatalf("%q is of no cluster: %+v", text, token)
		}
		again, err := token.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if back, err := ParseToken(again); err != nil || !reflect.DeepEqual(back, token) {
			t.Fatalf("%+v became %+v, %v", token, back, err)
		}
	})
}

// A snapshot that is taken is written and read as the same state and index. One that is not leaves the machine as it was.
func FuzzSnapshot(f *testing.F) {
	began, err := fsm.State{}.Apply(fsm.Envelope{ID: "init", Change: testInit()})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []fsm.State{{}, began} {
		var sink recordedSink
		if err := (snapshot{index: 9, state: s}).Persist(&sink); err != nil {
			f.Fatal(err)
		}
		f.Add(sink.Bytes())
	}
	f.Add([]byte{0, 0, 0})
	f.Fuzz(func(t *testing.T, content []byte) {
		told := 0
		m := &machine{index: 3, state: began, applied: func(uint64, fsm.State) { told++ }, halt: func(r string) { t.Fatal(r) }}
		if err := m.Restore(io.NopCloser(bytes.NewReader(content))); err != nil {
			if index, s := m.latest(); index != 3 || told != 0 || !reflect.DeepEqual(s, began) {
				t.Fatalf("refused (%v), and the machine is at %d: %+v", err, index, s)
			}
			return
		}
		if told != 1 || binary.BigEndian.Uint64(content) != m.index {
			t.Fatalf("index %d was told %d times", m.index, told)
		}
		taken, err := m.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		var sink recordedSink
		if err := taken.Persist(&sink); err != nil {
			t.Fatal(err)
		}
		again := &machine{applied: func(uint64, fsm.State) {}}
		if err := again.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))); err != nil || again.index != m.index {
			t.Fatalf("index %d became %d, %v", m.index, again.index, err)
		}
		if !reflect.DeepEqual(again.state, m.state) {
			t.Fatalf("%+v became %+v", m.state, again.state)
		}
	})
}

// Whatever is in the log, two machines do the same, and one that can't apply an entry applies none after it.
func FuzzLogEntry(f *testing.F) {
	for _, change := range []fsm.Command{
		testInit(), fsm.Appoint{Node: "id1"}, fsm.Pause{}, fsm.RemoveMember{ID: "id1"}, fsm.SetMember{Member: testInit().Members[0]},
	} {
		raw, err := fsm.EncodeCommand(fsm.Envelope{ID: "x", Change: change})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Add([]byte(`{"format":1,"kind":"dance","optional":true,"id":"x","change":{}}`))
	f.Add([]byte(`{"format":1,"kind":"dance","id":"x","change":{}}`))
	began, err := fsm.State{}.Apply(fsm.Envelope{ID: "init", Change: testInit()})
	if err != nil {
		f.Fatal(err)
	}
	pause, err := fsm.EncodeCommand(fsm.Envelope{ID: "after", Change: fsm.Pause{}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var twins [2]*machine
		var halted [2]string
		var said [2]string
		for i := range twins {
			m := &machine{index: 3, state: began, applied: func(uint64, fsm.State) {}, halt: func(r string) { halted[i] = r }}
			twins[i] = m
			if err, failed := m.Apply(&raft.Log{Index: 4, Data: data}).(error); failed {
				said[i] = err.Error()
			}
			if halted[i] == "" {
				continue
			}
			m.Apply(&raft.Log{Index: 5, Data: pause})
			if index, s := m.latest(); index != 3 || !reflect.DeepEqual(s, began) {
				t.Fatalf("%q halted it (%s), and it is at %d: %+v", data, halted[i], index, s)
			}
			if !strings.Contains(halted[i], "4") {
				t.Fatalf("which entry it was is not told: %s", halted[i])
			}
		}
		if halted[0] != halted[1] || said[0] != said[1] || !reflect.DeepEqual(twins[0].state, twins[1].state) {
			t.Fatalf("%q: %q %q, %+v, and %q %q, %+v", data, halted[0], said[0], twins[0].state, halted[1], said[1], twins[1].state)
		}
	})
}

// Whatever the initial nodes say of themselves, the first of them waits and says why, or begins a cluster that the machine
// takes; with a directory that is there no member's data is forgotten.
func FuzzFounders(f *testing.F) {
	node := func(n string, data DataFacts) helloAnswer {
		m := fsm.Member{ID: fsm.NodeID("id-" + n), Name: n, Role: fsm.RoleData, Addr: n + ":7400", Postgres: n + ":5432"}
		return helloAnswer{NodeID: m.ID, Member: m, Peers: []string{"n1:7400", "n2:7400"}, FailoverAfterMS: 1000, Data: data}
	}
	for _, data := range [][2]DataFacts{
		{noData, noData}, {primaryData(100), noData}, {primaryData(100), standbyData(60)}, {standbyData(100), primaryData(100)},
	} {
		for _, named := range []string{"", "n1", "n2"} {
			a, b := mustJSON(f, node("n1", data[0])), mustJSON(f, node("n2", data[1]))
			f.Add(a, b, named)
		}
	}
	f.Fuzz(func(t *testing.T, one, two []byte, named string) {
		var a, b helloAnswer
		if json.Unmarshal(one, &a) != nil || json.Unmarshal(two, &b) != nil {
			return
		}
		peers := []string{"n1:7400", "n2:7400"}
		// The node that asks made its own answer itself.
		own := node("n1", a.Data)
		answers := map[string]helloAnswer{peers[0]: own, peers[1]: b}
		if len(judgePeers(peers[0], peers, answers)) > 0 {
			return
		}
		v := judgeData(founders{nodes: []founder{{own.Member, own.Data}, {b.Member, b.Data}}, named: named})
		if len(v.against) > 0 {
			for _, why := range v.against {
				if why == "" {
					t.Fatalf("%s says nothing", v.rule)
				}
			}
			return
		}
		c := &Cluster{cfg: Config{Scope: "demo", Settings: testInit().Config.Settings}}
		init := c.firstCommand(peers, answers, v)
		if why := unfounded(init); len(why) > 0 {
			return
		}
		init.ClusterID = "c1"
		if _, err := (fsm.State{}).Apply(fsm.Envelope{ID: "init", Change: init}); err != nil {
			t.Fatalf("by rule %s a cluster would begin that can't: %v\n%s\n%s", v.rule, err, one, two)
		}
		if v.adopt == nil && (!own.Data.Empty || !b.Data.Empty) {
			t.Fatalf("by rule %s a new database is made beside data: %+v, %+v", v.rule, own.Data, b.Data)
		}
		if v.adopt == nil {
			return
		}
		accounted := map[fsm.NodeID]bool{v.adopt.Node: true}
		for _, id := range append(append([]fsm.NodeID{}, v.adopt.Keep...), v.adopt.Aside...) {
			accounted[id] = true
		}
		for _, n := range []helloAnswer{own, b} {
			if !n.Data.Empty && !accounted[n.Member.ID] {
				t.Fatalf("nothing is said of the data of %s: %+v", n.Member.ID, v.adopt)
			}
		}
	})
}

func mustJSON(f testing.TB, v any) []byte {
	f.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// An error that crosses the wire is on the other side what it was here, in the words of who returned it.
func FuzzWireErrors(f *testing.F) {
	for _, w := range wireErrors() {
		f.Add(w.code, w.err.Error())
	}
	f.Add("dance", "what is that")
	f.Fuzz(func(t *testing.T, code, text string) {
		sent := &transport.RemoteError{Code: code, Message: text}
		got := fromWire(sent)
		is := error(nil)
		for _, w := range wireErrors() {
			if w.code == code {
				is = w.err
			}
		}
		if is == nil {
			if !errors.Is(got, sent) {
				t.Fatalf("%q %q became %v", code, text, got)
			}
			return
		}
		var back *transport.RemoteError
		if !errors.Is(got, is) || got.Error() != text || !errors.As(toWire(got), &back) || *back != *sent {
			t.Fatalf("%q %q became %v, and %+v", code, text, got, back)
		}
	})
}
