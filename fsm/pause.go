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

// apply asks nobody to show the resume when the primary is no member (lease.md rule 10). Recovered alone leaves such a one: no
// primary is ever removed. It is of another cluster, whose log this pause was never in, so it can't write because of it, and
// it can't show the resume either. That it writes for no other reason is the word of whoever recovered, as is all else about
// those who were given up. Before the first appointment nobody can write at all.
func (c Resume) apply(next *State) (string, error) {
	if c.Down != "" && (c.Down != next.Primary || c.Epoch != next.Epoch) {
		return "", fmt.Errorf("%w: %s was said to be down as the primary of epoch %d; now %s is, of epoch %d", ErrStaleEpoch,
			next.Name(c.Down), c.Epoch, next.Name(next.Primary), next.Epoch)
	}
	if !next.Paused && (c.Down == "" || next.PauseRev == 0) {
		return "", fmt.Errorf("%w: the cluster is not paused", ErrExists)
	}
	next.Paused, next.PauseRev = false, next.Rev+1
	if _, member := next.Members[next.Primary]; !member {
		next.PauseRev = 0
		return "resumed; there is no primary that has to show that it knows", nil
	}
	if c.Down != "" {
		next.PauseRev = 0
		return fmt.Sprintf("resumed; an operator says that PostgreSQL of %s does not run", next.Name(next.Primary)), nil
	}
	return "resumed", nil
}

// Kind is "resume-shown".
func (ResumeShown) Kind() string { return "resume-shown" }

func (ResumeShown) nature() nature { return footnote() }

func (c ResumeShown) apply(next *State) (string, error) {
	if next.Paused {
		return "", fmt.Errorf("%w: nobody can have shown a resume", ErrPaused)
	}
	if next.PauseRev == 0 || next.PauseRev != c.Rev {
		return "", fmt.Errorf("%w: the last pause or resume is of revision %d, not %d", ErrStaleRev, next.PauseRev, c.Rev)
	}
	next.PauseRev = 0
	return fmt.Sprintf("%s has shown that it knows of the resume", next.Name(next.Primary)), nil
}
