package lab

import (
	"context"
	"slices"
	"sync"
	"time"
)

// respawnAfter is how long a daemon that has ended stays away, as with Restart=always and RestartSec=100ms of systemd.
const respawnAfter = 100 * time.Millisecond

// keeping is what this process does to keep the daemons running.
type keeping struct {
	starting sync.Mutex // held while a daemon is started
	mu       sync.Mutex
	gone     []*Node // that nobody starts again before the lab is healed
	count    int     // daemons started again
}

// leave says that nobody starts the daemons of these nodes again.
func (l *Lab) leave(nodes ...*Node) {
	l.keeping.mu.Lock()
	defer l.keeping.mu.Unlock()
	l.keeping.gone = append(l.keeping.gone, nodes...)
}

// left says whether nobody starts the node's daemon again.
func (l *Lab) left(n *Node) bool {
	l.keeping.mu.Lock()
	defer l.keeping.mu.Unlock()
	return slices.Contains(l.keeping.gone, n)
}

// respawned is how many daemons were started again since keep was called.
func (l *Lab) respawned() int {
	l.keeping.mu.Lock()
	defer l.keeping.mu.Unlock()
	return l.keeping.count
}

// back takes back what leave said of the node.
func (l *Lab) back(n *Node) {
	l.keeping.mu.Lock()
	defer l.keeping.mu.Unlock()
	l.keeping.gone = slices.DeleteFunc(l.keeping.gone, func(o *Node) bool { return o == n })
}

// Keep starts daemons again that have ended, but for those of nodes that were killed and not started since. The returned
// func ends this and waits for it.
func (l *Lab) Keep(ctx context.Context) (end func()) { return l.keep(ctx) }

// keep starts daemons again that have ended, as the service manager of a host does: those of nodes that are left are of
// hosts that are gone, or were told not to. The returned func ends this and waits for it.
func (l *Lab) keep(ctx context.Context) (end func()) {
	l.keeping.mu.Lock()
	l.keeping.gone, l.keeping.count = nil, 0
	l.keeping.mu.Unlock()
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	for _, n := range l.Nodes {
		wg.Go(func() {
			for pause(ctx, pollEvery) == nil {
				if l.running(n) || l.left(n) || pause(ctx, respawnAfter) != nil || l.left(n) {
					continue
				}
				if l.start(n) != nil {
					continue // it ended at once; its log says why, and so does who waits for a whole cluster
				}
				l.keeping.mu.Lock()
				l.keeping.count++
				l.keeping.mu.Unlock()
			}
		})
	}
	return func() { stop(); wg.Wait() }
}
