package lab

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestTheTablesWaitUntilTheClusterIsWhole: a cluster that was just formed moves its Raft leader off the primary, and whoever looks
// while it does sees that the leader is not done. That once ended a run of chaos before it began.
func TestTheTablesWaitUntilTheClusterIsWhole(t *testing.T) {
	l, err := create(Options{Nodes: 1, Durability: "async", Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(l.dir) })
	n := l.Nodes[0]
	if err := os.MkdirAll(filepath.Dir(n.Socket()), 0o755); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", n.Socket())
	if err != nil {
		t.Fatal(err)
	}
	const answer = `{"rule":"%s","verdict":"%s","view":{"State":{"epoch":1,"primary":"a","members":{"a":{"name":"n1"}}},` +
		`"Seen":{"a":{"Report":{"epoch":1,"serving":1,"run":"running","healthy":true}}}}}`
	var asked atomic.Int32
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if asked.Add(1) < 3 {
			_, _ = fmt.Fprintf(w, answer, "hand-off", "acting")
			return
		}
		_, _ = fmt.Fprintf(w, answer, "healthy", "healthy")
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		if err := errors.Join(server.Close(), <-served); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	// There is no Postgres, so the wait is over when that is what is missing.
	if err := l.MakeTables(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "connect to n1") || asked.Load() < 3 {
		t.Fatalf("asked %d times: %v", asked.Load(), err)
	}
}
