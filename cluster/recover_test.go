package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// logged is the entries of a log in which n1 makes a cluster and is its first primary, and then these.
func logged(t *testing.T, self fsm.NodeID, more ...[]byte) []*raft.Log {
	t.Helper()
	began := testInit()
	began.Members[0].ID = self
	s, err := fsm.State{}.Apply(fsm.Envelope{ID: "init", Change: began})
	if err != nil {
		t.Fatal(err)
	}
	out := []*raft.Log{
		entry(t, 1, fsm.Envelope{ID: "init", Change: began}),
		entry(t, 2, fsm.Envelope{ID: "first", IfRev: s.Rev, Change: fsm.Appoint{Node: self}}),
	}
	for i, data := range more {
		out = append(out, &raft.Log{Index: uint64(3 + i), Data: data})
	}
	for _, e := range out {
		e.Term = 1
	}
	return out
}

// survivor is the directory of a node whose daemon has ended, with a log that its state.bin is behind.
func survivor(t *testing.T, more ...[]byte) string {
	t.Helper()
	dir := t.TempDir()
	id, err := openIdentity(dir)
	if err != nil {
		t.Fatal(err)
	}
	f := founding{First: id.get().NodeID, Init: testInit(), Seed: strings.Repeat("ab", 32)}
	f.Init.Members[0].ID = id.get().NodeID
	if err := errors.Join(id.found(f), id.formed(), (&publisher{path: filepath.Join(dir, stateFile)}).save(0, fsm.State{})); err != nil {
		t.Fatal(err)
	}
	voter := &publisher{path: filepath.Join(dir, voterFile)} // recovery keeps it, and doesn't read it
	if err := voter.save(0, fsm.State{}); err != nil {
		t.Fatal(err)
	}
	withStores(t, dir, func(st stores) {
		if err := st.stable.SetUint64([]byte("CurrentTerm"), 1); err != nil {
			t.Fatal(err)
		}
		for _, e := range logged(t, id.get().NodeID, more...) {
			if err := st.log.StoreLog(e); err != nil {
				t.Fatal(err)
			}
		}
	})
	return dir
}

func withStores(t *testing.T, dir string, do func(stores)) {
	t.Helper()
	st, err := openStores(filepath.Join(dir, raftDir), hclog.NewNullLogger(), func(r string) { t.Error(r) })
	if err != nil {
		t.Fatal(err)
	}
	do(st)
	if err := st.closer.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestRecoverGoesOnFromTheEndOfTheLog: what only the log knew counts.
func TestRecoverGoesOnFromTheEndOfTheLog(t *testing.T) {
	more := make([][]byte, 100) // several pages of it
	for i := range more {
		more[i] = entry(t, 1, fsm.Envelope{ID: fmt.Sprint("pause-", i), Change: fsm.Pause{}}).Data
	}
	dir := survivor(t, more...)
	if _, err := Recover(dir, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	r, err := Inspect(dir)
	if err != nil || r.State.Epoch != 1 || r.State.Primary != r.Self || r.State.Generation != 2 || r.State.ClusterID == "c1" {
		t.Errorf("recovered to %+v, %v", r.State, err)
	}
}

// TestWhoWasRemovedRecoversNothing: the others go on, and it would make a second cluster of the same data.
func TestWhoWasRemovedRecoversNothing(t *testing.T) {
	removed := survivor(t)
	id, err := openIdentity(removed)
	if err == nil {
		err = id.strike()
	}
	if err != nil {
		t.Fatal(err)
	}
	_, asked := Inspect(removed)
	_, did := Recover(removed, hclog.NewNullLogger())
	leaves := fsm.State{ClusterID: "c1", Members: map[fsm.NodeID]fsm.Member{"x": {ID: "x", Name: "n1", Leaving: true}}}
	for _, c := range []struct {
		err  error
		says string
	}{
		{asked, "n1 was removed from cluster c1"}, {did, "n1 was removed from cluster c1"},
		{mayRecover(identity{NodeID: "x"}, leaves), "n1 is being removed from cluster c1"},
	} {
		if !errors.Is(c.err, ErrUnfit) || !strings.Contains(c.err.Error(), c.says) || !strings.Contains(c.err.Error(), "quorate init --adopt-from n1") {
			t.Errorf("%v, want that %s", c.err, c.says)
		}
	}
	if left, err := filepath.Glob(filepath.Join(removed, "before-recover-*")); err != nil || len(left) > 0 {
		t.Errorf("it was begun: %v, %v", left, err)
	}
	if id, err = openIdentity(removed); err != nil || !id.get().Removed {
		t.Errorf("it takes itself for a member: %v", err)
	}
}

// TestInspectShowsWhatRecoverActsOn: the end of the log, of which state.bin may know nothing yet.
func TestInspectShowsWhatRecoverActsOn(t *testing.T) {
	paused, err := fsm.EncodeCommand(fsm.Envelope{ID: "b", Change: fsm.Pause{}})
	if err != nil {
		t.Fatal(err)
	}
	dir := survivor(t, paused)
	for range 2 { // it changes nothing
		r, err := Inspect(dir)
		if err != nil || r.Index != 3 || r.Term != 1 || !r.State.Paused || r.State.Primary != r.Self || r.State.ClusterID != "c1" {
			t.Errorf("inspected %+v, %v", r, err)
		}
	}
	cfg := Config{Dir: dir, Scope: "test", Listen: "n1:7400"}
	if names, majority, err := Answering(t.Context(), cfg, transport.NewMemory().Host("n1"), hclog.NewNullLogger()); err != nil || majority || len(names) > 0 {
		t.Errorf("a node that is the only voter: %v answered, a majority %v, %v", names, majority, err)
	}
	if _, err := Recover(dir, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	if r, err := Inspect(dir); err != nil || r.Index != 3 || r.State.Generation != 2 {
		t.Errorf("after recovery %+v, %v", r, err)
	}
}

// TestRecoverDoesNotGoBehindWhatWasApplied: the only survivor has entries in its state.bin that its log does not have any more. A start
// refuses that. Recovery goes on from what was applied, and says so before anything is confirmed.
func TestRecoverDoesNotGoBehindWhatWasApplied(t *testing.T) {
	more := [][]byte{entry(t, 3, fsm.Envelope{ID: "b", Change: fsm.Pause{}}).Data, entry(t, 4, fsm.Envelope{ID: "c", Change: fsm.Resume{}}).Data}
	for name, harm := range map[string]func(t *testing.T, dir string, r Remains){
		"the log is of before": func(t *testing.T, dir string, _ Remains) {
			withStores(t, dir, func(st stores) {
				if err := st.log.DeleteRange(3, 4); err != nil {
					t.Fatal(err)
				}
			})
		},
		"the log is gone": func(t *testing.T, dir string, _ Remains) {
			if err := os.RemoveAll(filepath.Join(dir, raftDir)); err != nil {
				t.Fatal(err)
			}
		},
		"the log is gone, and an old snapshot of a later term than any that Raft would begin with is left": func(t *testing.T, dir string, r Remains) {
			withStores(t, dir, func(st stores) {
				old := r
				old.Index, old.Term = 2, 7
				if err := st.beginWith(r.State, old); err != nil {
					t.Fatal(err)
				}
			})
			if err := os.Remove(filepath.Join(dir, raftDir, logFile)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := survivor(t, more...)
			was, err := Inspect(dir)
			if err != nil || was.Doubt != "" {
				t.Fatalf("%q, %v", was.Doubt, err)
			}
			p := &publisher{path: filepath.Join(dir, stateFile)}
			if err := p.save(was.Index, was.State); err != nil {
				t.Fatal(err)
			}
			harm(t, dir, was)
			for range 2 { // a look makes nothing good
				r, err := Inspect(dir)
				if err != nil || r.Index != was.Index || !reflect.DeepEqual(r.State, was.State) || !strings.Contains(r.Doubt, "this node had applied entry 4") {
					t.Fatalf("index %d, revision %d, %q, %v; it had applied index %d, revision %d", r.Index, r.State.Rev, r.Doubt, err, was.Index, was.State.Rev)
				}
			}
			if _, err := Recover(dir, hclog.NewNullLogger()); err != nil {
				t.Fatal(err)
			}
			goesOn(t, dir, was)
		})
	}
}

// goesOn looks at what a recovery of was has left in dir with the eyes of a start.
func goesOn(t *testing.T, dir string, was Remains) {
	t.Helper()
	r, err := Inspect(dir)
	if err != nil || r.Doubt != "" || r.Index != was.Index || r.State.Rev != was.State.Rev+1 || r.State.Generation != was.State.Generation+1 {
		t.Errorf("recovered to %+v, %v", r, err)
	}
	p, err := openPublisher(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	applied, shown := p.current()
	withStores(t, dir, func(st stores) {
		term, errTerm := st.stable.GetUint64([]byte("CurrentTerm"))
		if err := errors.Join(errTerm, st.whole(applied)); err != nil || term < r.Term || r.Term < was.Term || !reflect.DeepEqual(shown, r.State) {
			t.Errorf("a start finds term %d below a log of term %d, before %d, and revision %d, not %d: %v", term, r.Term, was.Term, shown.Rev, r.State.Rev, err)
		}
	})
}

// TestARecoveryThatWasCutShortIsDoneAgain from what there was before, where the log alone would not do.
func TestARecoveryThatWasCutShortIsDoneAgain(t *testing.T) {
	dir := survivor(t)
	was, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join((&publisher{path: filepath.Join(dir, stateFile)}).save(was.Index, was.State), os.RemoveAll(filepath.Join(dir, raftDir))); err != nil {
		t.Fatal(err)
	}
	next, err := was.State.Recovered(was.Self, "c2", 0)
	if err != nil {
		t.Fatal(err)
	}
	withStores(t, dir, func(st stores) {
		if err := st.beginWith(next, was); err != nil {
			t.Fatal(err)
		}
	})
	for ms := time.Now().UnixMilli(); time.Now().UnixMilli() == ms; { // Raft names snapshots by it, and no person tries again that soon
	}
	between := Remains{Self: was.Self, State: next, Index: was.Index, Term: was.Term}
	if _, err := Recover(dir, hclog.NewNullLogger()); err != nil {
		t.Fatal(err)
	}
	goesOn(t, dir, between)
}

// TestWhatAnUnreadableStateLeavesOpenIsSaid: the log may have all, and nobody can tell.
func TestWhatAnUnreadableStateLeavesOpenIsSaid(t *testing.T) {
	dir := survivor(t)
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(stateFile, "nonsense")
	r, err := Inspect(dir)
	if err != nil || r.Index != 2 || !strings.Contains(r.Doubt, "ends with entry 2 of term 1") || !strings.Contains(r.Doubt, stateFile) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.RemoveAll(filepath.Join(dir, raftDir)); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(dir); !errors.Is(err, ErrRaftLost) {
		t.Errorf("with neither: %v", err)
	}
	if err := os.Remove(filepath.Join(dir, stateFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(dir); !errors.Is(err, ErrStateLost) {
		t.Errorf("without the file: %v", err)
	}
}

// TestRecoverDoesNotCutTheLog: an entry that this release does not know is no reason to forget it, or those after it.
func TestRecoverDoesNotCutTheLog(t *testing.T) {
	known, err := fsm.EncodeCommand(fsm.Envelope{ID: "b", Change: fsm.Pause{}})
	if err != nil {
		t.Fatal(err)
	}
	unknown := []byte(strings.Replace(string(known), `"pause"`, `"later"`, 1))
	dir := survivor(t, unknown, known)
	for range 2 {
		if _, err := Recover(dir, hclog.NewNullLogger()); err == nil || !strings.Contains(err.Error(), "log entry 3 can't be applied") {
			t.Fatalf("recovered over an unknown entry: %v", err)
		}
		withStores(t, dir, func(st stores) {
			first, errFirst := st.log.FirstIndex()
			last, errLast := st.log.LastIndex()
			snapshots, errList := st.snapshots.List()
			if err := errors.Join(errFirst, errLast, errList); err != nil || first != 1 || last != 4 || len(snapshots) != 0 {
				t.Fatalf("the log has entries %d to %d and %d snapshots, %v; it had 1 to 4 and none", first, last, len(snapshots), err)
			}
		})
		if p, err := openPublisher(dir, true); err != nil || p.state.ClusterID != "" {
			t.Fatalf("state.bin was changed to %+v, %v", p.state, err)
		}
		if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "log entry 3 can't be applied") {
			t.Fatalf("nothing is said before it is too late: %v", err)
		}
	}
}
