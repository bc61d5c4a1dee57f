package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
)

// Recover makes a cluster of the node in dir alone, after a majority was lost for good, while its daemon does not run. What was
// there is kept in the directory that is returned. The other nodes must never come back as they were: two of them would still
// be a majority of the old cluster, and nothing here can reach them.
//
// A crash in the middle leaves a directory that refuses to start; then it is called again.
func Recover(dir string, logger hclog.Logger) (kept string, err error) {
	store, err := openIdentity(dir)
	if err != nil {
		return "", err
	}
	var refused error
	st, err := openStores(filepath.Join(dir, raftDir), logger, func(reason string) { refused = errors.New(reason) })
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, st.closer.Close()) }()
	random, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("draw cluster id: %w", err)
	}
	self := store.get().NodeID
	heir := &heir{self: self, clusterID: random.String()}
	heir.machine = machine{applied: func(uint64, fsm.State) {}, halt: func(reason string) { refused = errors.New(reason) }}
	if kept, err = keepBefore(dir); err != nil {
		return "", err
	}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = raft.ServerID(self), quiet{logger}
	_, trans := raft.NewInmemTransport("")
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(self), Address: raftAddress(self)}}}
	if err := raft.RecoverCluster(conf, heir, st.log, st.stable, st.snapshots, trans, alone); err != nil || refused != nil {
		return kept, fmt.Errorf("recover the log: %w", errors.Join(err, refused))
	}
	index, next := heir.became()
	p := publisher{path: filepath.Join(dir, stateFile)}
	if err := p.save(index, next); err != nil {
		return kept, err
	}
	return kept, store.recovered(joined{
		ClusterID: next.ClusterID, Members: []fsm.Member{next.Members[self]}, Seed: store.get().seed(),
		FailoverAfterMS: next.Config.Settings.FailoverAfterMS, Version: next.Version,
	})
}

// heir is the machine whose snapshot is the recovered state.
type heir struct {
	machine
	self      fsm.NodeID
	clusterID string
	snapped   snapshot
}

// Snapshot is called once, after the whole log was read. Raft doesn't look at what Apply returns, and deletes the log once it
// has this: so there is none of a log that could not be applied to its end.
func (h *heir) Snapshot() (raft.FSMSnapshot, error) {
	if h.halted {
		return nil, errHalted
	}
	index, state := h.latest()
	next, err := state.Recovered(h.self, h.clusterID, time.Now().UnixMilli())
	if err != nil {
		return nil, err
	}
	h.snapped = snapshot{index: index, state: next}
	return h.snapped, nil
}

func (h *heir) became() (uint64, fsm.State) { return h.snapped.index, h.snapped.state }

// keepBefore copies what recovery changes, for whoever has to find out later what was there.
func keepBefore(dir string) (kept string, err error) {
	for n := 1; ; n++ {
		kept = filepath.Join(dir, fmt.Sprintf("before-recover-%d", n))
		if err := os.Mkdir(kept, 0o700); err == nil {
			break
		} else if !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make a directory for what was there: %w", err)
		}
	}
	for _, name := range []string{identityFile, stateFile, voterFile} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(kept, name), b, 0o600)
		}
		if err != nil {
			return "", fmt.Errorf("keep what was there: %w", err)
		}
	}
	if err := os.CopyFS(filepath.Join(kept, raftDir), os.DirFS(filepath.Join(dir, raftDir))); err != nil {
		return "", fmt.Errorf("keep the log that was there: %w", err)
	}
	return kept, syncAll(kept) // before the first byte of the original changes
}

// recovered makes durable that this node is what is left of its cluster.
func (s *identityStore) recovered(j joined) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := s.current
	next.Founding, next.Joined, next.Formed, next.Removed = nil, &j, true, false
	if err := durable.Save(s.path, identityVersion, next); err != nil {
		return fmt.Errorf("keep identity: %w", err)
	}
	s.current = next
	return nil
}

// syncAll makes everything on the file system of dir durable.
func syncAll(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("keep what was there: %w", err)
	}
	if err := errors.Join(unix.Syncfs(int(d.Fd())), d.Close()); err != nil {
		return fmt.Errorf("keep what was there: %w", err)
	}
	return nil
}
