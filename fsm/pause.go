package fsm

import "fmt"

// Kind is "pause".
func (Pause) Kind() string { return "pause" }

func (Pause) nature() nature { return unbound() }

// apply also drops a pending wish: with nobody allowed to appoint, a primary that stopped for its candidate would have
// no successor.
func (Pause) apply(next *State) (string, error) {
	if next.Paused {
		return "", fmt.Errorf("%w: the cluster is paused since revision %d", ErrExists, next.PauseRev)
	}
	next.Paused, next.PauseRev = true, next.Rev+1
	if next.Wish != nil {
		next.Wish = nil
		return "paused; the pending switchover was dropped", nil
	}
	return "paused", nil
}

// Kind is "resume".
func (Resume) Kind() string { return "resume" }

func (Resume) nature() nature { return unbound() }

func (c Resume) apply(next *State) (string, error) {
	if !next.Paused && (!c.Down || next.PauseRev == 0) {
		return "", fmt.Errorf("%w: the cluster is not paused", ErrExists)
	}
	next.Paused, next.PauseRev = false, next.Rev+1
	if c.Down {
		next.PauseRev = 0
		return fmt.Sprintf("resumed; an operator says that PostgreSQL of %s does not run", next.Name(next.Primary)), nil
	}
	return "resumed", nil
}
