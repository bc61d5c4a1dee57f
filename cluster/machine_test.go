package cluster

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

func testInit() fsm.Init {
	return fsm.Init{
		ClusterID: "c1", Scope: "test",
		Members: []fsm.Member{{ID: "id1", Name: "n1", Role: fsm.RoleData, Addr: "n1:7400"}},
		Config:  fsm.Config{Version: 1, Settings: fsm.Settings{FailoverAfterMS: 1000, Durability: fsm.DurabilityQuorum}},
	}
}

func entry(t *testing.T, index uint64, env fsm.Envelope) *raft.Log {
	t.Helper()
	raw, err := fsm.EncodeCommand(env)
	if err != nil {
		t.Fatal(err)
	}
	return &raft.Log{Index: index, Data: raw}
}

// stateAfterInit is a State with one member and nothing else.
func stateAfterInit(t *testing.T) fsm.State {
	t.Helper()
	s, err := fsm.State{}.Apply(fsm.Envelope{ID: "init", Change: testInit()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

type recordedSink struct {
	bytes.Buffer
	cancelled bool
}

func (*recordedSink) ID() string      { return "test" }
func (s *recordedSink) Cancel() error { s.cancelled = true; return nil }
func (*recordedSink) Close() error    { return nil }

func TestMachineAppliesAndKeepsTheResult(t *testing.T) {
	var told []uint64
	m := &machine{applied: func(i uint64, _ fsm.State) { told = append(told, i) }, halt: func(r string) { t.Errorf("halted: %s", r) }}
	if got := m.Apply(entry(t, 3, fsm.Envelope{ID: "a", Change: testInit()})); got != nil {
		t.Fatalf("Apply(Init) = %v", got)
	}
	got := m.Apply(entry(t, 4, fsm.Envelope{ID: "a", Change: testInit()}))
	if err, ok := got.(error); !ok || !errors.Is(err, fsm.ErrDuplicate) {
		t.Errorf("Apply of a known id = %v, want ErrDuplicate", got)
	}
	index, s := m.latest()
	if index != 4 || s.ClusterID != "c1" || s.Version != 1 {
		t.Errorf("after a refused command: index %d, state %+v", index, s)
	}
	if len(told) != 2 || told[1] != 4 {
		t.Errorf("told of %v, want every index: a refused command moves it too", told)
	}
}

func TestMachineHaltsOnWhatItDoesNotKnow(t *testing.T) {
	halts := 0
	m := &machine{applied: func(uint64, fsm.State) {}, halt: func(string) { halts++ }}
	m.Apply(entry(t, 1, fsm.Envelope{ID: "a", Change: testInit()}))
	known, err := fsm.EncodeCommand(fsm.Envelope{ID: "b", Change: fsm.Pause{}})
	if err != nil {
		t.Fatal(err)
	}
	unknown := []byte(strings.Replace(string(known), `"pause"`, `"later"`, 1))
	if bytes.Equal(known, unknown) {
		t.Fatalf("the encoding has no %q to replace: %s", "pause", known)
	}
	if _, ok := m.Apply(&raft.Log{Index: 2, Data: unknown}).(error); !ok || halts != 1 {
		t.Fatalf("an unknown command: %d halts, want 1", halts)
	}
	m.Apply(entry(t, 3, fsm.Envelope{ID: "c", Change: fsm.Pause{}}))
	if index, s := m.latest(); index != 1 || s.Paused {
		t.Errorf("went on after the halt to index %d, paused %v", index, s.Paused)
	}
}

func TestMachineSnapshotRoundTrip(t *testing.T) {
	m := &machine{applied: func(uint64, fsm.State) {}, halt: func(r string) { t.Error(r) }}
	m.Apply(entry(t, 7, fsm.Envelope{ID: "a", Change: testInit()}))
	snap, err := m.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	m.Apply(entry(t, 8, fsm.Envelope{ID: "b", Change: fsm.Pause{}}))
	var sink recordedSink
	if err := snap.Persist(&sink); err != nil {
		t.Fatal(err)
	}
	var told uint64
	other := &machine{applied: func(i uint64, _ fsm.State) { told = i }, halt: func(r string) { t.Error(r) }}
	if err := other.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()))); err != nil {
		t.Fatal(err)
	}
	index, s := other.latest()
	if index != 7 || told != 7 || s.ClusterID != "c1" || s.Paused {
		t.Errorf("restored index %d (told %d), cluster %q, paused %v; want 7, c1, as it was at the snapshot", index, told, s.ClusterID, s.Paused)
	}
	if err := other.Restore(io.NopCloser(bytes.NewReader(sink.Bytes()[:20]))); err == nil {
		t.Error("a truncated snapshot was restored")
	}
}
