package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
)

func numbered(t *testing.T, rev uint64) fsm.State {
	s := stateAfterInit(t)
	s.Rev = rev
	return s
}

func flushed(t *testing.T, p *publisher) bool {
	t.Helper()
	shown, err := p.flush()
	if err != nil {
		t.Fatal(err)
	}
	return shown
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func TestAStateIsShownOnlyOnceDurable(t *testing.T) {
	dir := t.TempDir()
	p, err := openPublisher(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	changed := p.change()
	p.offer(5, numbered(t, 1))
	if _, s := p.current(); s.Rev != 0 || isClosed(changed) {
		t.Fatalf("rev %d was shown before it was durable", s.Rev)
	}
	// The disk refuses: nothing may be shown.
	if err := os.Mkdir(p.path+".tmp", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.path+".tmp", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.flush(); err == nil {
		t.Fatal("flush succeeded without a place to write")
	}
	if _, s := p.current(); s.Rev != 0 || isClosed(changed) {
		t.Errorf("rev %d was shown though it could not be kept", s.Rev)
	}
	if err := os.RemoveAll(p.path + ".tmp"); err != nil {
		t.Fatal(err)
	}
	p.offer(6, numbered(t, 2))
	if !flushed(t, p) || !isClosed(changed) {
		t.Error("a durable state was not shown")
	}
}

func TestShownStateNeverGoesBack(t *testing.T) {
	dir := t.TempDir()
	p, err := openPublisher(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	p.offer(5, numbered(t, 1))
	p.offer(9, numbered(t, 3))
	p.offer(7, numbered(t, 2)) // older than what waits
	if !flushed(t, p) {
		t.Fatal("nothing shown")
	}
	if i, s := p.current(); i != 9 || s.Rev != 3 {
		t.Errorf("shown index %d rev %d, want the newest: 9, 3", i, s.Rev)
	}
	reopened, err := openPublisher(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if i, s := reopened.current(); i != 9 || s.Rev != 3 {
		t.Fatalf("after a start: index %d rev %d, want 9, 3", i, s.Rev)
	}
	changed := reopened.change()
	for i := uint64(1); i <= 9; i++ { // the log is replayed
		reopened.offer(i, numbered(t, 1))
		if flushed(t, reopened) || isClosed(changed) {
			t.Fatalf("replay of index %d had an effect", i)
		}
	}
	reopened.offer(10, numbered(t, 4))
	if !flushed(t, reopened) {
		t.Error("the first new index had none")
	}
}

func TestALostOrDamagedStateIsAnError(t *testing.T) {
	dir := t.TempDir()
	if _, err := openPublisher(dir, true); !errors.Is(err, ErrStateLost) {
		t.Errorf("without state.bin: %v, want ErrStateLost", err)
	}
	if err := os.WriteFile(filepath.Join(dir, stateFile), []byte("quorate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openPublisher(dir, true); !errors.Is(err, durable.ErrDamaged) {
		t.Errorf("with a damaged state.bin: %v, want ErrDamaged", err)
	}
}

// TestNothingIsShownBeforeThisNodeIsFormed: others count on what a node has shown, so its log must not be begun anew after that.
func TestNothingIsShownBeforeThisNodeIsFormed(t *testing.T) {
	p, err := openPublisher(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	unwritable := &identityStore{path: filepath.Join(t.TempDir(), "absent", identityFile), current: identity{Joined: &joined{ClusterID: "c1"}}}
	c := &Cluster{identity: unwritable, published: p}
	p.offer(1, numbered(t, 1))
	ctx, cancel := context.WithCancelCause(t.Context())
	c.publish(ctx, cancel)
	if index, s := p.current(); index != 0 || s.Rev != 0 {
		t.Errorf("shown at index %d, revision %d", index, s.Rev)
	}
	if cause := context.Cause(ctx); cause == nil {
		t.Error("it goes on without being formed")
	}
}
