package pgctl

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

func TestLocksOfTheDeadAreDropped(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.After(30 * time.Second); ; {
		if state, _ := stateOf(cmd.Process.Pid); state == "Z" {
			break
		}
		select {
		case <-tick.C:
		case <-end:
			t.Fatal("the process does not end")
		}
	}
	for _, c := range []struct {
		name, content string
		stays         bool
	}{
		{"dead but not reaped", fmt.Sprintf("%d\n/some/where\n", cmd.Process.Pid), false},
		{"alive", fmt.Sprintf("%d\n", os.Getpid()), true},
		{"no number", "\n", true},
		{"torn", "", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := &Instance{cfg: Config{DataDir: t.TempDir(), SocketDir: t.TempDir(), Port: 5432}, log: hclog.NewNullLogger()}
			locks := []string{filepath.Join(i.cfg.DataDir, "postmaster.pid"), i.cfg.SocketPath() + ".lock"}
			for _, path := range locks {
				if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := i.dropDeadLocks(); err != nil {
				t.Fatal(err)
			}
			for _, path := range locks {
				if _, err := os.Stat(path); (err == nil) != c.stays {
					t.Errorf("%s: %v, stays: %v", filepath.Base(path), err, c.stays)
				}
			}
		})
	}
}
