package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
)

const (
	stateFile    = "state.bin"
	stateVersion = 1
)

// stateRecord is state.bin: this node's copy of the applied state.
type stateRecord struct {
	Rev   uint64          `json:"rev"`
	Index uint64          `json:"index"` // of the last log entry in it
	State json.RawMessage `json:"state"` // as fsm.EncodeState gives it
}

// publisher shows states to the rest of the node, each only after state.bin holds it, and never an older one than before.
// Of states that come faster than the disk takes them only the newest is shown. All methods may be called from any
// goroutine.
type publisher struct {
	path string
	wake chan struct{}

	mu      sync.Mutex
	index   uint64
	state   fsm.State
	next    *pendingState
	changed chan struct{} // closed and replaced with every new state
}

type pendingState struct {
	index uint64
	state fsm.State
}

// openPublisher shows what state.bin holds: from the first moment that is the applied state, before Raft has replayed
// anything. formed says that this node took part in Raft, and so must have the file; a new node gets one with the zero
// State.
func openPublisher(dir string, formed bool) (*publisher, error) {
	p := &publisher{path: filepath.Join(dir, stateFile), wake: make(chan struct{}, 1), changed: make(chan struct{})}
	rec, err := durable.Load[stateRecord](p.path, stateVersion)
	if errors.Is(err, durable.ErrAbsent) {
		if formed {
			return nil, fmt.Errorf("%w: what was applied here is unknown without %s", ErrStateLost, p.path)
		}
		return p, p.save(0, fsm.State{})
	}
	if err != nil {
		return nil, fmt.Errorf("read applied state: %w", err)
	}
	if !beginsWithDisk {
		return p, nil
	}
	if p.state, err = fsm.DecodeState(rec.State); err != nil {
		return nil, fmt.Errorf("decode %s: %w", p.path, err)
	}
	p.index = rec.Index
	return p, nil
}

// current is the state shown and the index of its last log entry.
func (p *publisher) current() (uint64, fsm.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.index, p.state
}

// change returns a channel that is closed when another state than the present one is shown.
func (p *publisher) change() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// wakeAll has those who wait for a change look again.
func (p *publisher) wakeAll() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// offer hands in an applied state. What is not newer than the state shown has no effect: replay after a start passes
// through states that the cluster has left.
func (p *publisher) offer(index uint64, s fsm.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if index <= p.index || (p.next != nil && index <= p.next.index) {
		return
	}
	p.next = &pendingState{index: index, state: s}
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// flush makes the newest offered state durable and then shows it. One caller at a time. After an error this node can't
// keep its promise any more and must end.
func (p *publisher) flush() (shown bool, err error) {
	p.mu.Lock()
	next := p.next
	p.next = nil
	p.mu.Unlock()
	if next == nil {
		return false, nil
	}
	if err := p.save(next.index, next.state); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.index, p.state = next.index, next.state
	close(p.changed)
	p.changed = make(chan struct{})
	return true, nil
}

func (p *publisher) save(index uint64, s fsm.State) error {
	raw, err := fsm.EncodeState(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return durable.Save(p.path, stateVersion, stateRecord{Rev: s.Rev, Index: index, State: raw})
}
