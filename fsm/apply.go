package fsm

import (
	"fmt"
	"slices"
)

const (
	maxEvents = 64  // lines of history that every state carries
	maxSeen   = 128 // request ids that are recognised as duplicates
	maxText   = 256 // bytes of a request id, a wish id, a name of who asked, a reason
)

// Apply returns the state after e. On error it returns s as it was: the error wraps one of the sentinels of this package.
// The result shares nothing mutable with s or e. Equal arguments give equal results on every node, and there is no input
// that makes it panic.
func (s State) Apply(e Envelope) (State, error) {
	if !known(e.Change) {
		return s, &UnknownCommandError{Kind: fmt.Sprintf("%T", e.Change)}
	}
	if err := s.admit(e); err != nil {
		return s, fmt.Errorf("apply %s: %w", e.Change.Kind(), err)
	}
	next := s.clone()
	text, err := e.Change.apply(&next)
	if err != nil {
		return s, fmt.Errorf("apply %s: %w", e.Change.Kind(), err)
	}
	next.Version++
	if e.Change.nature().bumpsRev {
		next.Rev++
	}
	next.Seen = keepLast(append(next.Seen, e.ID), maxSeen)
	next.Events = keepLast(append(next.Events, Event{Rev: next.Rev, Epoch: next.Epoch, Wall: e.Wall, By: e.By, Text: text}), maxEvents)
	return next, nil
}

// admit checks what does not depend on the kind of command: who it is, whether it was here before, and whether the world
// is still the one it was made for (lease.md rule 1).
func (s State) admit(e Envelope) error {
	if e.ID == "" || len(e.ID) > maxText {
		return fmt.Errorf("%w: the request id has %d bytes, 1 to %d are allowed", ErrInvalid, len(e.ID), maxText)
	}
	if len(e.By) > maxText {
		return fmt.Errorf("%w: the name of who asks has %d bytes, at most %d are allowed", ErrInvalid, len(e.By), maxText)
	}
	if slices.Contains(s.Seen, e.ID) {
		return fmt.Errorf("%w: request %s", ErrDuplicate, e.ID)
	}
	if _, first := e.Change.(Init); !first && s.ClusterID == "" {
		return ErrNoCluster
	}
	if stale := e.IfRev != s.Rev && (e.IfRev != 0 || e.Change.nature().needsRev); stale && (checksRev || e.IfRev == 0) {
		return fmt.Errorf("%w: decided under revision %d, now it is %d", ErrStaleRev, e.IfRev, s.Rev)
	}
	return nil
}

// known reports whether c is one of the commands by value. A pointer to one, or a foreign type that embeds one, satisfies
// the interface too, but has no place in the log and could be nil.
func known(c Command) bool {
	switch c.(type) {
	case Init, Appoint, Promoted, SetSync, SetElectorate, SetMember, RemoveMember, AskSwitchover, AskFailover, BeginSwitchover, EndWish,
		EditConfig, RecordDiscard, DismissDiscard, RecordFailover, Pause, Resume, ResumeShown:
		return true
	}
	return false
}

// clone copies everything that s points to. Lists come out empty rather than nil, so that equal states have equal bytes.
func (s State) clone() State {
	s.Lineage = append([]Lineage{}, s.Lineage...)
	s.Electorate.Voters = append([]NodeID{}, s.Electorate.Voters...)
	s.Sync.Members = append([]NodeID{}, s.Sync.Members...)
	s.Config.Earlier = append([]ConfigVersion{}, s.Config.Earlier...)
	s.Discards = append([]Discard{}, s.Discards...)
	s.Failovers = append([]Failover{}, s.Failovers...)
	for i := range s.Failovers {
		s.Failovers[i].Phases = append([]Phase{}, s.Failovers[i].Phases...)
	}
	s.Events = append([]Event{}, s.Events...)
	s.Seen = append([]string{}, s.Seen...)
	members := make(map[NodeID]Member, len(s.Members))
	for id, m := range s.Members {
		members[id] = m
	}
	s.Members = members
	if s.Wish != nil {
		wish := *s.Wish
		s.Wish = &wish
	}
	s.Adopted = s.Adopted.clone()
	return s
}

// keepLast drops the oldest elements beyond limit.
func keepLast[T any](list []T, limit int) []T {
	if len(list) <= limit {
		return list
	}
	return append([]T{}, list[len(list)-limit:]...)
}

// sortedSet returns ids sorted, and false if one is there twice.
func sortedSet(ids []NodeID) ([]NodeID, bool) {
	set := append([]NodeID{}, ids...)
	slices.Sort(set)
	return set, len(slices.Compact(append([]NodeID{}, set...))) == len(set)
}

// Name is what people call the node: its name, or its id when the cluster does not know it.
func (s State) Name(id NodeID) string {
	if m, ok := s.Members[id]; ok && m.Name != "" {
		return m.Name
	}
	if id == "" {
		return "nobody"
	}
	return string(id)
}

// Names renders nodes for people, in the order given.
func (s State) Names(ids []NodeID) []string {
	names := make([]string, 0, len(ids))
	for _, id := range ids {
		names = append(names, s.Name(id))
	}
	return names
}

// Electable returns nil if the node may become primary as far as its role and tags go; otherwise ErrNotMember or
// ErrNotElectable.
func (s State) Electable(id NodeID) error {
	m, ok := s.Members[id]
	switch {
	case !ok:
		return fmt.Errorf("%w: %s", ErrNotMember, id)
	case m.Role != RoleData:
		return fmt.Errorf("%w: %s is a %s and has no Postgres", ErrNotElectable, s.Name(id), m.Role)
	case m.NoFailover:
		return fmt.Errorf("%w: %s has nofailover set", ErrNotElectable, s.Name(id))
	case m.Leaving:
		return fmt.Errorf("%w: %s is being removed", ErrNotElectable, s.Name(id))
	}
	return nil
}
