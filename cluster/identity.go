package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/transport"
)

const (
	identityFile    = "identity.bin"
	identityVersion = 1
)

// identity is who this node is. It is made with the directory and never changes but for learning its cluster: the disk is
// the identity, and a wiped node is another one (lease.md rule 11).
type identity struct {
	NodeID fsm.NodeID `json:"node_id"`
	// Founding is how the cluster began, as its first node wrote it before telling anybody; nil while this node belongs to
	// no cluster. A crash at any point goes on with the same one.
	Founding *founding `json:"founding,omitempty"`
	// Joined is the cluster that let this node in later; never beside Founding.
	Joined *joined `json:"joined,omitempty"`
	// Formed says that Raft was begun in this directory; without its log it must then never be begun again.
	Formed bool `json:"formed"`
	// Removed says that this node is no member any more, which nobody tells it a second time after a restart.
	Removed bool `json:"removed,omitempty"`
}

// founding is the same on every initial node.
type founding struct {
	First fsm.NodeID `json:"first"` // the bootstrapping node
	Init  fsm.Init   `json:"init"`
	Seed  string     `json:"seed"` // see PasswordSeed; as transport.Secret.Hex gives it
}

// joined is what a node must know of its cluster until it has applied the first entry of its log.
type joined struct {
	ClusterID string       `json:"cluster_id"`
	Members   []fsm.Member `json:"members"` // as they were then, this node included
	Seed      string       `json:"seed"`    // see PasswordSeed
	// FailoverAfterMS never changes, and this node's own file may say otherwise.
	FailoverAfterMS int64 `json:"failover_after_ms"`
	// Version is of a state that has this node among its members: none before it can say that the node is no member.
	Version uint64 `json:"version"`
}

// before returns the members that the node began with, and says whether a state of this Version is of before that. A node that joins
// is sent the log from its beginning, and the leader may have become a member later than what it reads there.
func (id identity) before(version uint64) (members []fsm.Member, before bool) {
	switch {
	case id.Founding != nil:
		return id.Founding.Init.Members, false
	case id.Joined != nil:
		return id.Joined.Members, version < id.Joined.Version
	}
	return nil, false
}

// seed is empty while the node belongs to no cluster.
func (id identity) seed() string {
	switch {
	case id.Founding != nil:
		return id.Founding.Seed
	case id.Joined != nil:
		return id.Joined.Seed
	}
	return ""
}

// failoverAfter is 0 while the node belongs to no cluster.
func (id identity) failoverAfter() time.Duration {
	var ms int64
	switch {
	case id.Founding != nil:
		ms = id.Founding.Init.Config.Settings.FailoverAfterMS
	case id.Joined != nil:
		ms = id.Joined.FailoverAfterMS
	}
	return millis(ms)
}

func (f *founding) member(id fsm.NodeID) bool {
	for _, m := range f.Init.Members {
		if m.ID == id {
			return true
		}
	}
	return false
}

// identityStore is identity.bin. Its methods may be called from any goroutine.
type identityStore struct {
	path string

	mu      sync.Mutex
	current identity
	learned chan struct{} // closed once there is a founding
}

// openIdentity reads the identity in dir, or makes a new one.
func openIdentity(dir string) (*identityStore, error) {
	s := &identityStore{path: filepath.Join(dir, identityFile), learned: make(chan struct{})}
	id, err := durable.Load[identity](s.path, identityVersion)
	switch {
	case errors.Is(err, durable.ErrAbsent):
		if err := nothingOf(dir, voterFile, stateFile, raftDir); err != nil {
			return nil, err
		}
		random, err := uuid.NewRandom()
		if err != nil {
			return nil, fmt.Errorf("draw node id: %w", err)
		}
		id = identity{NodeID: fsm.NodeID(random.String())}
		if err := durable.Save(s.path, identityVersion, id); err != nil {
			return nil, fmt.Errorf("keep identity: %w", err)
		}
	case err != nil:
		return nil, fmt.Errorf("read identity: %w", err)
	}
	s.current = id
	if id.Founding != nil || id.Joined != nil {
		close(s.learned)
	}
	return s, nil
}

// PasswordSeed is what the passwords of database roles are derived from that no node file gives. It is drawn at the
// founding, every member keeps it in its directory, and it does not change with cluster.secret: a password is in the
// database, and the others have to know it at every moment. ok is false while the node of dir belongs to no cluster.
func PasswordSeed(dir string) (seed transport.Secret, ok bool, err error) {
	id, err := durable.Load[identity](filepath.Join(dir, identityFile), identityVersion)
	text := id.seed()
	if errors.Is(err, durable.ErrAbsent) || err == nil && text == "" {
		return seed, false, nil
	}
	if err == nil {
		seed, err = transport.ParseSecret([]byte(text))
	}
	if err != nil {
		return seed, false, fmt.Errorf("read the password seed: %w", err)
	}
	return seed, true, nil
}

// FailoverAfter is the failover_after of the cluster that the node in dir belongs to, fixed since its founding; 0 while it belongs
// to none. Whatever is derived from it must come from here: by another value a guard would freeze a primary between two beats,
// or later than its voters think.
func FailoverAfter(dir string) (time.Duration, error) {
	id, err := durable.Load[identity](filepath.Join(dir, identityFile), identityVersion)
	if err != nil && !errors.Is(err, durable.ErrAbsent) {
		return 0, fmt.Errorf("read failover_after of the cluster: %w", err)
	}
	d := id.failoverAfter()
	if (id.Founding != nil || id.Joined != nil) && d <= 0 {
		return 0, fmt.Errorf("%w: %s does not say failover_after of the cluster; wipe cluster.data_dir and join the node as a new member", ErrStateLost, identityFile)
	}
	return d, nil
}

// nothingOf refuses a directory that has lost its identity: what else is in it was promised under an id that nobody knows.
func nothingOf(dir string, names ...string) error {
	for _, name := range names {
		_, err := os.Stat(filepath.Join(dir, name))
		if err == nil {
			return fmt.Errorf("%w: %s has %s and no %s; restore it from this node's own disk, or wipe the directory and join the node as a new member", ErrStateLost, dir, name, identityFile)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("look into cluster.data_dir: %w", err)
		}
	}
	return nil
}

func (s *identityStore) get() identity {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current
}

// clusterID is empty while this node belongs to no cluster.
func (s *identityStore) clusterID() string {
	switch id := s.get(); {
	case id.Founding != nil:
		return id.Founding.Init.ClusterID
	case id.Joined != nil:
		return id.Joined.ClusterID
	}
	return ""
}

// join makes durable which cluster this node belongs to from now on.
func (s *identityStore) join(j joined) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if have := s.current; have.Founding != nil || have.Joined != nil {
		return fmt.Errorf("%w: this node belongs to one already", ErrOtherCluster)
	}
	if _, err := transport.ParseSecret([]byte(j.Seed)); err != nil {
		return fmt.Errorf("read the password seed of the cluster: %w", err)
	}
	if j.FailoverAfterMS <= 0 {
		return fmt.Errorf("%w: the answer does not say failover_after of the cluster", fsm.ErrFormat)
	}
	next := s.current
	next.Joined = &j
	if err := durable.Save(s.path, identityVersion, next); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	s.current = next
	close(s.learned)
	return nil
}

// found makes f durable. The same founding may come again; another one is refused.
func (s *identityStore) found(f founding) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if j := s.current.Joined; j != nil {
		return fmt.Errorf("%w: this node belongs to cluster %s, not %s", ErrOtherCluster, j.ClusterID, f.Init.ClusterID)
	}
	if have := s.current.Founding; have != nil {
		if have.Init.ClusterID != f.Init.ClusterID {
			return fmt.Errorf("%w: this node belongs to cluster %s, not %s", ErrOtherCluster, have.Init.ClusterID, f.Init.ClusterID)
		}
		return nil
	}
	if _, err := transport.ParseSecret([]byte(f.Seed)); err != nil {
		return fmt.Errorf("read the password seed of the founding: %w", err)
	}
	if !f.member(s.current.NodeID) {
		return fmt.Errorf("%w: node %s is not among its founding members (was its directory replaced meanwhile?)", ErrOtherCluster, s.current.NodeID)
	}
	next := s.current
	next.Founding = &f
	if err := durable.Save(s.path, identityVersion, next); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	s.current = next
	close(s.learned)
	return nil
}

// formed makes durable that Raft was begun here.
func (s *identityStore) formed() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.current
	next.Formed = true
	if err := durable.Save(s.path, identityVersion, next); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	s.current = next
	return nil
}

// strike makes durable that this node was removed. After an error it is so until the process ends.
func (s *identityStore) strike() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.current.Removed = true
	if err := durable.Save(s.path, identityVersion, s.current); err != nil {
		return fmt.Errorf("keep that this node was removed: %w", err)
	}
	return nil
}
