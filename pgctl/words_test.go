package pgctl

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/internal/pg"
)

func TestLastWords(t *testing.T) {
	for _, c := range []struct{ log, want string }{
		{"", ""},
		{"2026-01-01 10:00:00 UTC [7] LOG:  shutting down\n", ""},
		{"x [7] FATAL:  first\nx [8] PANIC:  could not locate a valid checkpoint record\nx [7] LOG:  database system is shut down\n", "could not locate a valid checkpoint record"},
		{"x [7] FATAL:  could not load server certificate file \"server.crt\": No such file or directory\nx [9] FATAL:  the database system is starting up\nx [9] FATAL:  terminating connection due to administrator command", "could not load server certificate file \"server.crt\": No such file or directory"},
	} {
		if got := lastWords(c.log); got != c.want {
			t.Errorf("%q: %q, want %q", c.log, got, c.want)
		}
	}
}

// TestEndsBeforeItAnswers: a server that can't start is told from one that ended later, and its reason is found.
func TestEndsBeforeItAnswers(t *testing.T) {
	c := boot(t, "n1", "n2")
	n := c.members[1]
	stopped := func(s Status) bool { return s.Run == pg.RunStopped }
	if err := n.StopFast(t.Context(), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	if s := n.Status(t.Context()); !s.Answered || s.Died != "" || n.LastWords() != "" {
		t.Errorf("stopped by order: answered %v, died %q, last words %q", s.Answered, s.Died, n.LastWords())
	}
	if err := os.Chmod(n.cfg.DataDir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := n.StartReadOnly(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	var s Status
	eventually(t, "it to end", func() bool { s = n.Status(t.Context()); return stopped(s) })
	if s.Answered || s.Died != "exit status 1" || !strings.Contains(n.LastWords(), "has invalid permissions") {
		t.Errorf("it can't start: answered %v, died %q, last words %q", s.Answered, s.Died, n.LastWords())
	}
	if err := os.Chmod(n.cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if s := n.drive(c.want(n), "a standby that follows", streaming); !s.Answered || s.Died != "" || n.LastWords() != "" {
		t.Errorf("it runs: answered %v, died %q, last words %q", s.Answered, s.Died, n.LastWords())
	}
}
