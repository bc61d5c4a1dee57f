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
	r, err := st.recoverable(dir, store.get())
	if err != nil {
		return "", err
	}
	next, err := r.State.Recovered(r.Self, random.String(), time.Now().UnixMilli())
	if err != nil {
		return "", err
	}
	if kept, err = keepBefore(dir); err != nil {
		return "", err
	}
	if err := errors.Join(st.beginWith(next, r), refused); err != nil {
		return kept, fmt.Errorf("recover the log: %w", err)
	}
	p := publisher{path: filepath.Join(dir, stateFile)}
	if err := p.save(r.Index, next); err != nil {
		return kept, err
	}
	return kept, store.recovered(joined{
		ClusterID: next.ClusterID, Members: []fsm.Member{next.Members[r.Self]}, Seed: store.get().seed(),
		FailoverAfterMS: next.Config.Settings.FailoverAfterMS, Version: next.Version,
	})
}

// beginWith has Raft go on from s with this node as the only server: a snapshot of s takes the place of the log. raft.RecoverCluster
// does it from snapshots and log alone, and leaves the term as it is: where that is gone with the log, a leader would make entries of an
// earlier term than the snapshot's, and of two logs the older one would count for more.
func (st stores) beginWith(s fsm.State, r Remains) error {
	currentTerm := []byte("CurrentTerm") // Raft's own key
	current, err := st.stable.GetUint64(currentTerm)
	if err != nil && err.Error() != "not found" { // the text is what Raft looks at, too
		return fmt.Errorf("read the term: %w", err)
	}
	term := max(r.Term, current, 1)
	_, trans := raft.NewInmemTransport("")
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: raft.ServerID(r.Self), Address: raftAddress(r.Self)}}}
	sink, err := st.snapshots.Create(raft.SnapshotVersionMax, r.Index, term, alone, 1, trans)
	if err != nil {
		return fmt.Errorf("begin a snapshot: %w", err)
	}
	if err := (snapshot{index: r.Index, state: s}).Persist(sink); err != nil {
		return err
	}
	first, errFirst := st.log.FirstIndex()
	last, errLast := st.log.LastIndex()
	if err := errors.Join(errFirst, errLast); err != nil {
		return fmt.Errorf("look into the log: %w", err)
	}
	if err := st.log.DeleteRange(first, last); err != nil { // what it says of the servers is of before
		return fmt.Errorf("delete the log: %w", err)
	}
	if err := st.stable.SetUint64(currentTerm, term); err != nil { // not earlier: a term is taken for a memory of votes
		return fmt.Errorf("keep the term: %w", err)
	}
	return nil
}

// mayRecover refuses a node that the others go on without, for good: what it made would be a second cluster that writes to the
// same data. Nothing tells it whether they all are lost.
func mayRecover(id identity, s fsm.State) error {
	name, is := s.Name(id.NodeID), "was"
	switch {
	case id.Removed:
	case s.Members[id.NodeID].Leaving:
		is = "is being"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s %s removed from cluster %s, which goes on without it: a cluster of it alone would be a second one that writes to the same data. Recover a node that is a "+
		"member. If none is left, and its data are wanted all the same, found a new cluster with them: move cluster.data_dir away, "+
		"take cluster.peers out of the node file, start it, and: quorate init --adopt-from %s", ErrUnfit, name, is, s.ClusterID, name)
}

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
	next.Founding, next.Joined, next.Formed = nil, &j, true
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
