package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"sync"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/transport"
)

// Remains is what a node's own disk says of its cluster: what Recover would go on with.
type Remains struct {
	Self  fsm.NodeID
	State fsm.State // with all of the log applied, committed or not, and not behind what this node had applied
	// Index and Term are of the last entry in that. Of several survivors the one with the higher term, then the higher index, knows more.
	Index, Term uint64
	// Doubt says, as a sentence for people, why the log is not all that this node had, or may not be; empty: it is.
	Doubt string
}

// Inspect reads what the node in dir knows, while its daemon does not run. It changes nothing of what is there. It fails where Recover
// would, because the log can't be read to its end, or because this node may not go on.
func Inspect(dir string) (r Remains, err error) {
	if belongs, err := Belongs(dir); err != nil || !belongs {
		return Remains{}, errors.Join(fmt.Errorf("%w: there is nothing to recover in %s", ErrNotMember, dir), err)
	}
	store, err := openIdentity(dir)
	if err != nil {
		return Remains{}, err
	}
	st, err := openStores(filepath.Join(dir, raftDir), hclog.NewNullLogger(), func(string) {}) // at most an empty log is made
	if err != nil {
		return Remains{}, err
	}
	defer func() { err = errors.Join(err, st.closer.Close()) }()
	return st.recoverable(dir, store.get())
}

// recoverable is what the node in dir would go on with, if it may be all that is left. That is never behind what it had applied,
// whatever became of its log: its Postgres, its guard and its voter have acted by it. A log that is gone costs a survivor only what it
// had heard and not applied; the votes in it bound it towards a cluster that nobody goes on with.
func (st stores) recoverable(dir string, id identity) (Remains, error) {
	p, err := openPublisher(dir, true)
	damaged := errors.Is(err, durable.ErrDamaged)
	if damaged {
		p = &publisher{}
	} else if err != nil {
		return Remains{}, err
	}
	applied, state := p.current()
	r, end, replayErr := st.replay(applied, state)
	r.Self = id.NodeID
	switch {
	case replayErr != nil:
		return r, replayErr
	case r.Index == 0:
		return r, fmt.Errorf("%w: there is nothing to recover from in %s", ErrRaftLost, dir)
	case damaged:
		r.Doubt = fmt.Sprintf("Its Raft log ends with entry %d of term %d, and whether that is all that this node had applied is not known: %v.", end, r.Term, err)
	case end < applied:
		r.Doubt = fmt.Sprintf("Its Raft log is not as this node left it: it ends with entry %d of term %d, and this node had applied entry %d. It goes on from "+
			"that entry, which %s has; what else it had heard is not known.", end, r.Term, applied, stateFile)
	}
	if err := mayRecover(id, r.State); err != nil {
		return r, err
	}
	_, err = r.State.Recovered(id.NodeID, "its own", 0) // nothing is changed yet when that is refused
	return r, err
}

// replay computes the state at the end of the log, from the newest of a snapshot and the state that was applied. end is where log and
// snapshots end, which may be before that.
func (st stores) replay(applied uint64, state fsm.State) (r Remains, end uint64, err error) {
	m := &machine{applied: func(uint64, fsm.State) {}, halt: func(reason string) { err = errors.New(reason) }}
	snapshots, listErr := st.snapshots.List() // the newest first
	last, lastErr := st.log.LastIndex()
	if err := errors.Join(listErr, lastErr); err != nil {
		return r, 0, fmt.Errorf("look into the raft directory: %w", err)
	}
	end = last
	for _, kept := range snapshots {
		_, content, err := st.snapshots.Open(kept.ID)
		if err != nil || m.Restore(content) != nil {
			continue
		}
		end, r.Term, r.Index = max(end, kept.Index), kept.Term, kept.Index
		break
	}
	if r.Index < applied {
		m.index, m.state, r.Index = applied, state, applied
	}
	for at := min(last, r.Index+1); at > 0 && at <= last; at++ { // the last one is read in any case: it has the term
		var entry raft.Log
		if err := st.log.GetLog(at, &entry); err != nil {
			return r, end, fmt.Errorf("read log entry %d: %w", at, err)
		}
		if entry.Type == raft.LogCommand && at > r.Index {
			m.Apply(&entry)
		}
		if err != nil {
			return r, end, err
		}
		r.Index, r.Term = max(r.Index, at), max(r.Term, entry.Term)
	}
	_, r.State = m.latest()
	return r, end, nil
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
