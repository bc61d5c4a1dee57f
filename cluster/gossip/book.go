package gossip

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/internal/durable"
)

const bookVersion = 1

// maxMeta is memberlist's limit for what a node says of itself, in bytes.
const maxMeta = 512

// Node is what a member says of itself.
type Node struct {
	ID       string `json:"-"`
	Addr     string `json:"c"`           // cluster port, host:port as others dial it
	API      string `json:"a,omitempty"` // HTTP
	Postgres string `json:"p,omitempty"`
}

// meta is what goes over the wire. The cluster port's address always fits, whatever the names of hosts.
func (n Node) meta() []byte {
	for _, short := range []Node{n, {Addr: n.Addr}} {
		if b, err := json.Marshal(short); err == nil && len(b) <= maxMeta {
			return b
		}
	}
	return nil
}

func nodeOf(id string, meta []byte) (Node, error) {
	n := Node{ID: id}
	if err := json.Unmarshal(meta, &n); err != nil {
		return n, fmt.Errorf("read what %s says of itself: %w", id, err)
	}
	if n.Addr == "" {
		return n, fmt.Errorf("%s gives no address", id)
	}
	return n, nil
}

// book is what members last said of themselves. It lives on disk as well: after all nodes were restarted elsewhere but
// one, that one is found by what the others remember of it.
type book struct {
	path string

	mu    sync.Mutex
	nodes map[string]Node
	kept  map[string]Node // what the disk has
}

// openBook begins with an empty book when there is none or it can't be read: these are hints.
func openBook(path string, logger hclog.Logger) *book {
	b := &book{path: path, nodes: map[string]Node{}}
	nodes, err := durable.Load[map[string]Node](path, bookVersion)
	if err != nil && !errors.Is(err, durable.ErrAbsent) {
		logger.Warn("addresses heard of by gossip before are lost", "error", err)
	}
	for id, n := range nodes {
		n.ID = id
		b.nodes[id] = n
	}
	b.kept = maps.Clone(b.nodes)
	return b
}

func (b *book) get(id string) (Node, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, ok := b.nodes[id]
	return n, ok
}

func (b *book) put(n Node) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes[n.ID] = n
}

// save keeps the book if it changed. One caller at a time.
func (b *book) save() error {
	b.mu.Lock()
	nodes := maps.Clone(b.nodes)
	b.mu.Unlock()
	if maps.Equal(nodes, b.kept) {
		return nil
	}
	if err := durable.Save(b.path, bookVersion, nodes); err != nil {
		return err
	}
	b.kept = nodes
	return nil
}
