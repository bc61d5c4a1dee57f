package gossip

import (
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
)

const (
	// saidAgain is how long the same trouble with the same host is not said again.
	saidAgain = time.Minute
	// maxSaid bounds what is said in that time, from whatever addresses packets pretend to come.
	maxSaid = 16
)

// lines takes memberlist's log. It is for debugging, but for what an operator can mend.
type lines struct {
	log hclog.Logger

	mu    sync.Mutex
	since time.Time
	said  map[string]bool // trouble and host, since then
}

func newLines(logger hclog.Logger) *lines { return &lines{log: logger, said: map[string]bool{}} }

// trouble is what memberlist says, and what it means.
var trouble = []struct{ line, means string }{
	{"unacceptable label", "gossip refused: it is of another cluster"},
	{errOtherKey.Error(), "gossip refused: it was encrypted with another cluster.secret, or by no quorate"},
	{errMalformed.Error(), "gossip refused: it is malformed: its sender is of another release, or out of order"},
	{"over TCP but UDP probes failed", "UDP does not get through to the cluster port of a node, TCP does: open it in the firewall"},
}

// noLabel is in what is said of bytes that no quorate sent, and of a stream that was closed before anything was sent.
const noLabel = `label ""`

// Write takes one line.
func (l *lines) Write(b []byte) (int, error) {
	text := strings.TrimSpace(string(b))
	for _, t := range trouble {
		if !strings.Contains(text, t.line) || strings.Contains(text, noLabel) {
			continue
		}
		if who := hostIn(text); l.isNews(t.means + who) {
			l.log.Warn(t.means, "from", who)
			return len(b), nil
		}
		break
	}
	l.log.Debug("memberlist", "says", text)
	return len(b), nil
}

// hostIn is the host that a line names, or the node.
func hostIn(text string) string {
	if _, from, ok := strings.Cut(text, "from="); ok {
		from, _, _ = strings.Cut(from, " ")
		if host, _, err := net.SplitHostPort(from); err == nil {
			return host
		}
		return from
	}
	if _, node, ok := strings.Cut(text, "connect to "); ok {
		node, _, _ = strings.Cut(node, " ")
		return node
	}
	return ""
}

func (l *lines) isNews(what string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.since) >= saidAgain {
		l.since = now
		clear(l.said)
	}
	if l.said[what] || len(l.said) >= maxSaid {
		return false
	}
	l.said[what] = true
	return true
}
