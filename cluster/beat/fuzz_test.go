package beat

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
)

// sampleState is a healthy cluster of n1 (primary), n2 and n3.
func sampleState() fsm.State {
	s := fsm.State{
		ClusterID: "c1", Rev: 7, Epoch: 3, Primary: "n1", Members: map[fsm.NodeID]fsm.Member{},
		Electorate: fsm.Electorate{Voters: []fsm.NodeID{"n1", "n2", "n3"}, Version: 1},
		Sync:       fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2", "n3"}, Copies: 2},
		Lineage:    []fsm.Lineage{{Epoch: 3, Node: "n1", Timeline: 1, Promoted: true}},
		Config:     fsm.Config{Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}},
	}
	for _, id := range s.Electorate.Voters {
		s.Members[id] = fsm.Member{ID: id, Name: string(id), Role: fsm.RoleData}
	}
	return s
}

// sampleBeat is one of the primary, with all that it can say.
func sampleBeat() beatMessage {
	return beatMessage{
		Version: wireVersion, Cluster: "c1", Node: "n1", Incarnation: 1 << 63, Seq: 9, Electorate: 1, Vouch: true, Epoch: 3, L: 800 * time.Millisecond,
		Report: failover.Report{
			Node: "n1", Epoch: 3, Rev: 7, Run: failover.RunRunning, Serving: 3, Healthy: true, Timeline: 1, Flush: 0x3000060,
			Streaming: []failover.StreamingMember{{Node: "n2", Flush: 0x3000060}},
			Sightings: []failover.Age{{Node: "n2", MS: 40}, {Node: "n3", MS: 90_000}},
			Released:  &fsm.Release{Epoch: 2, Node: "n1", Timeline: 1, FinalLSN: 0x3000000},
			Promise:   &fsm.Promise{Node: "n1", Rev: 7, Rule: fsm.SyncRule{Members: []fsm.NodeID{"n1", "n2"}, Copies: 2}},
		},
	}
}

func frame(f *testing.F, v any) []byte {
	f.Helper()
	b, err := encodeMessage(v)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// A reply that is understood is the one that was sent.
func FuzzReply(f *testing.F) {
	f.Add(frame(f, replyMessage{Version: wireVersion, Voter: "n2", Incarnation: 1 << 63, Seq: 9, Yes: true, For: 3, Sealed: 2, Epoch: 3, Primary: "n1", Rev: 7}))
	f.Add([]byte{0, 1, 0, 1, '{'})
	f.Fuzz(func(t *testing.T, said []byte) {
		roundTrip[replyMessage](t, said)
	})
}

// roundTrip reads a message as a connection does and holds that it is written and read as the same; false: it is none.
func roundTrip[M any](t *testing.T, said []byte) (M, bool) {
	t.Helper()
	var msg, again M
	if err := readMessage(bytes.NewReader(said), &msg); err != nil {
		if !errors.Is(err, errWire) && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Fatalf("untyped error %v", err)
		}
		return msg, false
	}
	once, err := encodeMessage(msg)
	if err != nil {
		return msg, true // JSON writes some bytes as six, and then it is too long
	}
	if err := readMessage(bytes.NewReader(once), &again); err != nil {
		t.Fatal(err)
	}
	if twice, err := encodeMessage(again); err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("%s became %s, %v", once, twice, err)
	}
	return again, true
}

// Whatever frame comes, the voter's answer promises no more than it may: nothing for an epoch that is sealed or passed, nobody
// but the primary's word for its own, no lease beyond the longest; and what decisions read of it is possible.
func FuzzBeat(f *testing.F) {
	f.Add(frame(f, sampleBeat()))
	standby := sampleBeat()
	standby.Node, standby.Report.Node, standby.Vouch, standby.Report.InRecovery, standby.Report.Upstream = "n3", "n3", false, true, "n1"
	f.Add(frame(f, standby))
	stranger := sampleBeat()
	stranger.Node, stranger.Report.Node = "n9", "n9"
	f.Add(frame(f, stranger))
	f.Add([]byte{0, 1, 0, 1, '{'})
	s := voterOf(f)
	f.Fuzz(func(t *testing.T, said []byte) {
		msg, ok := roundTrip[beatMessage](t, said)
		if !ok || s.admit(nil, msg) != nil {
			return
		}
		if msg.Cluster != s.ClusterID || msg.Node != msg.Report.Node || msg.Node == s.Self {
			t.Fatalf("admitted: %+v", msg)
		}
		s.seen = newSightings()
		reply := s.answer(msg)
		if reply.Incarnation != msg.Incarnation || reply.Seq != msg.Seq || reply.Voter != s.Self || reply.Sealed != 1 {
			t.Fatalf("%+v was answered by %+v", msg, reply)
		}
		state := s.State()
		_, member := state.Members[msg.Node]
		may := member && msg.Vouch && msg.Epoch > 1 && msg.L > 0 && msg.L <= lease.MaxL && (msg.Epoch > state.Epoch || msg.Node == state.Primary)
		if reply.Yes != may || reply.Yes && reply.For != msg.Epoch {
			t.Fatalf("%+v was answered by %+v", msg, reply)
		}
		if _, err := encodeMessage(reply); err != nil {
			t.Fatal(err)
		}
		if again := s.answer(msg); !reflect.DeepEqual(again, reply) {
			t.Fatalf("the same beat was answered by %+v, then by %+v", reply, again)
		}
		possible(t, s)
	})
}

// voterOf is n2, which has sealed epoch 1.
func voterOf(f *testing.F) *Service {
	f.Helper()
	state, now := sampleState(), time.Duration(0)
	s, err := New(Config{Self: "n2", ClusterID: "c1", VoterFile: filepath.Join(f.TempDir(), "voter.bin")}, Deps{
		Logger: hclog.NewNullLogger(),
		Boot:   func() time.Duration { now += time.Millisecond; return now },
		State:  func() fsm.State { return state },
		Report: func() failover.Report { return failover.Report{} },
		Wake:   func() {},
	})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := s.Seal(f.Context(), 1); err != nil {
		f.Fatal(err)
	}
	return s
}

// possible holds that the view of this node has only members in it, none of them heard in the future, not by others either,
// and that something follows from it.
func possible(t *testing.T, s *Service) {
	t.Helper()
	state, seen := s.State(), s.Sightings()
	for id, sighting := range seen {
		if _, member := state.Members[id]; !member || sighting.Age < 0 {
			t.Fatalf("%s: %+v", id, sighting)
		}
		for _, a := range sighting.Report.Sightings {
			if age := time.Duration(a.MS) * time.Millisecond; age < 0 || age+sighting.Age < 0 || age/time.Millisecond != time.Duration(a.MS) {
				t.Fatalf("%s has heard %s in the future: %d ms ago", id, a.Node, a.MS)
			}
		}
	}
	for _, leading := range []bool{true, false} {
		d := failover.Decide(failover.View{
			State: state, Self: s.Self, Leading: leading, Seen: seen, BeatEvery: 125 * time.Millisecond, LeadingFor: time.Minute, EpochAge: time.Minute,
		})
		if d.Rule == "" || d.Do == nil {
			t.Fatalf("nothing follows: %+v", d)
		}
	}
}

// Whatever voter.bin holds, the promises in it are kept to after a start, or there is no voter. One that may have vouched a
// moment before it went down counts as busy for as long.
func FuzzVoterFile(f *testing.F) {
	for _, rec := range []lease.VoterRecord{{ID: "n2"}, {ID: "n2", Sealed: 7, Lmax: 800 * time.Millisecond}, {ID: "n1", Sealed: 1}} {
		b, err := json.Marshal(rec)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"id":"n2","sealed":1,"lmax":-1}`))
	f.Add([]byte(`{"id":"n2","sealed":1,"lmax":9223372036854775807}`))
	f.Add([]byte(`{"id":"n2","sealed":1,"lmax":91322505432427482}`)) // times 101 it is just above 2^63
	path := filepath.Join(f.TempDir(), "voter.bin")
	f.Fuzz(func(t *testing.T, payload []byte) {
		if !json.Valid(payload) || durable.Save(path, voterFileVersion, json.RawMessage(payload)) != nil {
			return
		}
		const now = time.Hour
		v, err := openVoter(path, "n2", func() time.Duration { return now })
		if err != nil {
			if !errors.Is(err, ErrPromisesLost) {
				t.Fatalf("%s: untyped error %v", payload, err)
			}
			return
		}
		var rec lease.VoterRecord
		if err := json.Unmarshal(payload, &rec); err != nil || rec.ID != "n2" || v.lease.Record() != rec {
			t.Fatalf("%s became %+v, %v", payload, v.lease.Record(), err)
		}
		if left := v.lease.SealReply(now).Left; left < rec.Lmax || left > 2*lease.MaxL {
			t.Fatalf("%s: it counts as busy for %s", payload, left)
		}
		if reply, _ := v.lease.Vouch(now, lease.Beat{Epoch: rec.Sealed, Node: "n1", L: 1}); reply.Yes || reply.Sealed != rec.Sealed {
			t.Fatalf("%s: it vouches for what it sealed: %+v", payload, reply)
		}
	})
}

// Only who is at the other end may be spoken for.
func FuzzWhoSpeaks(f *testing.F) {
	f.Add("c1", "n1", "c1", "n1", "n1")
	f.Add("c1", "n3", "c1", "n1", "n1")
	f.Add("c2", "n1", "c1", "n1", "n3")
	s := voterOf(f)
	f.Fuzz(func(t *testing.T, cluster, peer, named, node, reported string) {
		msg := sampleBeat()
		msg.Cluster, msg.Node, msg.Report.Node = named, fsm.NodeID(node), fsm.NodeID(reported)
		err := s.admit(knownConn{cluster: cluster, node: peer}, msg)
		honest := cluster == "c1" && named == "c1" && peer == node && node == reported && node != "n2"
		if honest != (err == nil) {
			t.Fatalf("node %q of %q says that %q of %q reports for %q: %v", peer, cluster, node, named, reported, err)
		}
	})
}

type knownConn struct {
	net.Conn
	cluster, node string
}

func (c knownConn) Peer() (cluster, node string) { return c.cluster, c.node }
