package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

// Remains is what a node's own disk says of its cluster: what Recover would go on with.
type Remains struct {
	Self  fsm.NodeID
	State fsm.State // with all of the log applied, committed or not
	// Index and Term are of the last entry in the log. Of several survivors the one with the higher term, then the higher index,
	// knows more.
	Index, Term uint64
}

// Inspect reads what the node in dir knows, while its daemon does not run. It changes nothing. It fails where Recover would,
// because the log can't be read to its end.
func Inspect(dir string) (r Remains, err error) {
	if belongs, err := Belongs(dir); err != nil || !belongs {
		return Remains{}, errors.Join(fmt.Errorf("%w: there is nothing to recover in %s", ErrNotMember, dir), err)
	}
	store, err := openIdentity(dir)
	if err != nil {
		return Remains{}, err
	}
	if _, err := os.Stat(filepath.Join(dir, raftDir, logFile)); err != nil {
		return Remains{}, fmt.Errorf("%w: there is nothing to recover from: %w", ErrRaftLost, err)
	}
	st, err := openStores(filepath.Join(dir, raftDir), hclog.NewNullLogger(), func(string) {}) // nothing is written
	if err != nil {
		return Remains{}, err
	}
	defer func() { err = errors.Join(err, st.closer.Close()) }()
	r.Self = store.get().NodeID
	r.State, r.Index, r.Term, err = st.replay()
	return r, err
}

// replay computes the state at the end of the log.
func (st stores) replay() (s fsm.State, index, term uint64, err error) {
	m := &machine{applied: func(uint64, fsm.State) {}, halt: func(reason string) { err = errors.New(reason) }}
	snapshots, listErr := st.snapshots.List() // the newest first
	last, lastErr := st.log.LastIndex()
	if err := errors.Join(listErr, lastErr); err != nil {
		return s, 0, 0, fmt.Errorf("look into the raft directory: %w", err)
	}
	for _, kept := range snapshots {
		if _, content, err := st.snapshots.Open(kept.ID); err == nil && m.Restore(content) == nil {
			index, term = kept.Index, kept.Term
			break
		}
	}
	for at := index + 1; at <= last; at++ {
		var entry raft.Log
		if err := st.log.GetLog(at, &entry); err != nil {
			return s, index, term, fmt.Errorf("read log entry %d: %w", at, err)
		}
		if entry.Type == raft.LogCommand {
			m.Apply(&entry)
		}
		if err != nil {
			return s, index, term, err
		}
		index, term = entry.Index, entry.Term
	}
	_, s = m.latest()
	return s, index, term, nil
}

// Answering asks each of the other voters once whether it lives, in the name of the node in cfg.Dir, whose daemon does not run.
// majority says that with this node they are enough to go on as they are; a node alone never is, which a recovery that was cut short
// has to finish.
func Answering(ctx context.Context, cfg Config, network transport.Network, logger hclog.Logger) (names []string, majority bool, err error) {
	r, err := Inspect(cfg.Dir)
	if err != nil {
		return nil, false, err
	}
	store, err := openIdentity(cfg.Dir)
	if err != nil {
		return nil, false, err
	}
	host, _, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, false, fmt.Errorf("cluster.listen: %w", err)
	}
	cfg.Listen = net.JoinHostPort(host, "0") // nobody shall take this for the daemon
	c := &Cluster{
		cfg: cfg, deps: Deps{Network: network}, log: logger, identity: store,
		machine: &machine{index: r.Index, state: r.State}, published: &publisher{},
	}
	if err := c.openPort(nobody); err != nil {
		return nil, false, err
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	alive := 0
	for _, id := range r.State.Electorate.Voters {
		if id == r.Self {
			alive++
			continue
		}
		asking.Go(func() {
			var answer helloAnswer
			if c.callWithin(ctx, peerAnswersWithin, string(id), callHello, struct{}{}, &answer) == nil {
				mu.Lock()
				defer mu.Unlock()
				names = append(names, r.State.Name(id))
			}
		})
	}
	asking.Wait()
	slices.Sort(names)
	majority = len(names) > 0 && alive+len(names) > len(r.State.Electorate.Voters)/2
	return names, majority, errors.Join(c.rpc.Close(), c.mux.Close())
}
