package cli

import (
	"context"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestSignals: the first SIGINT asks for an orderly end, a second one or SIGTERM ends the daemon only.
func TestSignals(t *testing.T) {
	log := hclog.New(&hclog.LoggerOptions{Output: io.Discard})
	for _, c := range []struct {
		name  string
		sent  []syscall.Signal
		asked bool
		ended bool
	}{
		{"SIGTERM", []syscall.Signal{syscall.SIGTERM}, false, true},
		{"SIGINT", []syscall.Signal{syscall.SIGINT}, true, false},
		{"SIGINT, then SIGTERM", []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}, true, true},
		{"SIGINT twice", []syscall.Signal{syscall.SIGINT, syscall.SIGINT}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, s := signals(context.Background(), log)
			defer s.release()
			for i, sig := range c.sent {
				if err := syscall.Kill(os.Getpid(), sig); err != nil {
					t.Fatal(err)
				}
				if i == 0 && c.asked {
					await(t, s.asked) // Signals that wait together are one.
				}
			}
			if c.ended {
				await(t, ctx.Done())
			} else if ctx.Err() != nil {
				t.Error("ended")
			}
			select {
			case <-s.asked:
				if !c.asked {
					t.Error("asked for an orderly end")
				}
			default:
				if c.asked {
					t.Error("did not ask for an orderly end")
				}
			}
		})
	}
}

// SIGHUP ends nothing: it asks for another look at the secret file, once for all that wait together.
func TestHangUp(t *testing.T) {
	ctx, s := signals(context.Background(), hclog.New(&hclog.LoggerOptions{Output: io.Discard}))
	defer s.release()
	for range 3 {
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		await(t, s.reread)
	}
	if ctx.Err() != nil {
		t.Error("SIGHUP ended the daemon")
	}
}

func await(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatal("not within 30 s")
	}
}
