package cluster

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/quorate/quorate/fsm"
)

// maxSnapshot bounds what Restore takes into memory (bytes).
const maxSnapshot = 256 << 20

// machine is the raft.FSM around fsm.State. Raft calls Apply, Snapshot and Restore from one goroutine; latest may be
// called from any.
type machine struct {
	applied func(index uint64, s fsm.State) // called under no lock, in log order
	halt    func(reason string)

	halted bool // touched by raft's goroutine only

	mu    sync.Mutex
	index uint64
	state fsm.State
}

// Apply computes the next state. Its result, nil or the command's error, is what Submit returns on the leader.
func (m *machine) Apply(entry *raft.Log) any {
	if m.halted {
		return errHalted
	}
	env, err := fsm.DecodeCommand(entry.Data)
	if unknown := (*fsm.UnknownCommandError)(nil); errors.As(err, &unknown) && unknown.Optional {
		return err
	}
	if err != nil {
		// Another release wrote what this one can't apply. Skipping it would make this node's state another one, so
		// nothing after it is applied either, should the process take a moment to end.
		m.halted = true
		m.halt(fmt.Sprintf("log entry %d can't be applied: %v; run a release that knows it", entry.Index, err))
		return err
	}
	m.mu.Lock()
	next, err := m.state.Apply(env)
	if err == nil {
		m.state = next
	}
	m.index = entry.Index
	next = m.state
	m.mu.Unlock()
	m.applied(entry.Index, next)
	return err
}

// latest is the newest applied state and the index of the entry that made it.
func (m *machine) latest() (uint64, fsm.State) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.index, m.state
}

// Snapshot captures the state; States are immutable, so nothing is copied.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	index, state := m.latest()
	return snapshot{index: index, state: state}, nil
}

// Restore replaces the state by a snapshot's.
func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	var head [8]byte
	if _, err := io.ReadFull(from, head[:]); err != nil {
		return fmt.Errorf("read snapshot's index: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(from, maxSnapshot))
	if err != nil {
		return fmt.Errorf("read snapshot: %w", err)
	}
	state, err := fsm.DecodeState(raw)
	if err != nil {
		return fmt.Errorf("decode snapshot: %w", err)
	}
	index := binary.BigEndian.Uint64(head[:])
	m.mu.Lock()
	m.index, m.state = index, state
	m.mu.Unlock()
	m.applied(index, state)
	return nil
}

// snapshot is the index of the last applied command (8 bytes, big-endian) and the encoded state.
type snapshot struct {
	index uint64
	state fsm.State
}

// Persist writes the snapshot; raft makes it durable.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	raw, err := fsm.EncodeState(s.state)
	if err == nil {
		_, err = sink.Write(append(binary.BigEndian.AppendUint64(nil, s.index), raw...))
	}
	if err != nil {
		_ = sink.Cancel() // the write's error says more
		return fmt.Errorf("write snapshot: %w", err)
	}
	return sink.Close()
}

// Release has nothing to free.
func (snapshot) Release() {}
