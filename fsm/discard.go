package fsm

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/internal/pg"
)

const maxDiscards = 64

// Discard says that log of a node was no part of the cluster's history and was taken away from its data directory: what
// it held, and where on that node it is kept. Nobody had been promised any of it, but with durability async, or where an operator accepted the loss.
type Discard struct {
	ID        string      `json:"id"` // chosen by the node, the same when it says it again
	Node      NodeID      `json:"node"`
	Epoch     Epoch       `json:"epoch"`    // whose timeline the node follows instead
	Timeline  pg.Timeline `json:"timeline"` // of the discarded log
	From      pg.LSN      `json:"from"`     // where the histories part
	To        pg.LSN      `json:"to"`       // end of the discarded log
	Commits   int         `json:"commits"`  // transactions committed in it, -1 if they could not be counted
	Way       string      `json:"way"`      // "rewind" or "clone"; "quarantine": a directory not to be run again, of which the log is not known
	Path      string      `json:"path"`     // directory on the node that has the evidence; of a quarantine the one that was set aside
	SHA256    string      `json:"sha256"`   // of the evidence's manifest, hexadecimal
	Lossy     bool        `json:"lossy"`    // made under durability async or by an accepted loss: some of it may have been acknowledged and be nowhere else
	Dismissed bool        `json:"dismissed,omitempty"`
}

// RecordDiscard makes a Discard known to all (Version only). Saying it again changes nothing.
type RecordDiscard struct {
	Discard Discard `json:"discard"`
}

// DismissDiscard is a person's word that a Discard was looked at: status stops showing it. The evidence stays.
type DismissDiscard struct {
	ID string `json:"id"`
}

// Kind is "record-discard".
func (RecordDiscard) Kind() string { return "record-discard" }

func (RecordDiscard) nature() nature { return footnote() }

func (c RecordDiscard) apply(next *State) (string, error) {
	d := c.Discard
	if _, ok := next.Members[d.Node]; !ok {
		return "", fmt.Errorf("%w: %s", ErrNotMember, d.Node)
	}
	for _, text := range []string{d.ID, d.Way, d.Path, d.SHA256} {
		if text == "" || len(text) > maxPath {
			return "", fmt.Errorf("%w: a discard's id, way, path and sha256 have 1 to %d bytes each, one has %d", ErrInvalid, maxPath, len(text))
		}
	}
	if slices.ContainsFunc(next.Discards, func(known Discard) bool { return known.ID == d.ID }) {
		return "", fmt.Errorf("%w: discard %s", ErrExists, d.ID)
	}
	d.Dismissed = false
	if len(next.Discards) >= maxDiscards {
		// Only those that somebody has seen make room. The node says it again until there is some.
		old := slices.IndexFunc(next.Discards, func(d Discard) bool { return d.Dismissed })
		if old < 0 {
			return "", fmt.Errorf("%w: %d discards wait to be looked at, which is the limit; see quorate discards", ErrInvalid, maxDiscards)
		}
		next.Discards = slices.Delete(next.Discards, old, old+1)
	}
	next.Discards = append(next.Discards, d)
	if d.Way == "quarantine" {
		return fmt.Sprintf("%s set a data directory aside, not to be run again, kept in %s", next.Name(d.Node), d.Path), nil
	}
	return fmt.Sprintf("%s discarded %s to %s of timeline %d (%d commits), kept in %s", next.Name(d.Node), d.From, d.To, d.Timeline, d.Commits, d.Path), nil
}

// Kind is "dismiss-discard".
func (DismissDiscard) Kind() string { return "dismiss-discard" }

func (DismissDiscard) nature() nature { return footnote() }

func (c DismissDiscard) apply(next *State) (string, error) {
	for i, d := range next.Discards {
		if d.ID == c.ID {
			next.Discards[i].Dismissed = true
			return "discard " + c.ID + " was looked at", nil
		}
	}
	return "", fmt.Errorf("%w: %q", ErrNoDiscard, c.ID)
}
