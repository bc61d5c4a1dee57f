package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/pgctl/guard"
)

// heldDir is a guard's directory that an agent still owns, and how to let go of it.
func heldDir(t *testing.T) (dir string, letGo func()) {
	t.Helper()
	dir = t.TempDir()
	return dir, hold(t, dir)
}

// hold makes the directory one that an agent owns.
func hold(t *testing.T, dir string) (letGo func()) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "agent.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() }) // a second time, after letGo
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAgentBefore: an agent that was killed and hangs in a disk is waited for, not taken for one that lives.
func TestAgentBefore(t *testing.T) {
	t.Run("it ends", func(t *testing.T) {
		dir, letGo := heldDir(t)
		log := hclog.New(&hclog.LoggerOptions{Output: waited(letGo)})
		_, err := openKeeper(t.Context(), guard.Options{Dir: dir, Argv: []string{"/nowhere/quorate"}}, "1", log)
		if errors.Is(err, guard.ErrAgentRunning) || !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it was not waited for, or the guard was not started: %v", err)
		}
	})
	t.Run("this one is to end first", func(t *testing.T) {
		dir, _ := heldDir(t)
		ctx, stop := context.WithCancel(t.Context())
		log := hclog.New(&hclog.LoggerOptions{Output: waited(stop)})
		if _, err := openKeeper(ctx, guard.Options{Dir: dir, Argv: []string{"/nowhere/quorate"}}, "1", log); !errors.Is(err, context.Canceled) {
			t.Errorf("it went on: %v", err)
		}
	})
}

// TestPromisesOfTheAgentBefore: what this node promised is read when nobody can write it any more, not before. An agent that
// reads first finds this record damaged, and here there is none to write it anew.
func TestPromisesOfTheAgentBefore(t *testing.T) {
	data := t.TempDir()
	dir := filepath.Join(data, "guard")
	letGo := hold(t, dir)
	if err := os.WriteFile(filepath.Join(data, "promise.bin"), []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	cfg := config.Config{Cluster: config.Cluster{DataDir: data, Listen: "127.0.0.1:7400", Peers: []string{"127.0.0.1:7400"}}, PostgreSQL: config.PostgreSQL{Listen: "127.0.0.1:5432", BinDir: "/nowhere"}}
	err := Run(ctx, cfg, Options{Logger: hclog.New(&hclog.LoggerOptions{Output: waited(stop)})})
	letGo()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("it did not wait for the other agent first: %v", err)
	}
}

// waited is called with the line that says that another agent is waited for.
type waited func()

func (w waited) Write(line []byte) (int, error) {
	w()
	return len(line), nil
}
