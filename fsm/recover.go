package fsm

import "fmt"

// Recovered is the state with which self begins anew, alone, after a majority was lost for good: an operator says so, nothing
// proves it. The cluster is another one from then on, so nobody of the old one is spoken to, and elections ask for no position
// but self's own. wall is in unix milliseconds, for display. Self must be a member with data.
func (s State) Recovered(self NodeID, clusterID string, wall int64) (State, error) {
	m, ok := s.Members[self]
	switch {
	case !ok:
		return s, fmt.Errorf("%w: %s", ErrNotMember, self)
	case m.Role != RoleData:
		return s, fmt.Errorf("%w: %s is a %s and has no Postgres: recover a node that has data", ErrNotElectable, m.Name, m.Role)
	case s.Epoch == 0:
		return s, fmt.Errorf("%w: no node was ever primary, so there is nothing to go on with; empty cluster.data_dir and begin anew", ErrStaleEpoch)
	case self != s.Primary && (s.SystemID == 0 || s.Adopting(s.Primary)):
		return s, fmt.Errorf("%w: %s was appointed the first primary and has not told yet that it opened its data, so %s has nothing to go on "+
			"with: recover %[2]s, or empty cluster.data_dir and begin anew", ErrNotElectable, s.Name(s.Primary), m.Name)
	case clusterID == "" || clusterID == s.ClusterID:
		return s, fmt.Errorf("%w: the recovered cluster needs an id of its own", ErrInvalid)
	}
	next, was := s.clone(), len(s.Members)
	m.NoVote, m.NoFailover = false, false
	next.ClusterID, next.Generation = clusterID, s.Generation+1
	next.Members = map[NodeID]Member{self: m}
	next.Electorate = Electorate{Voters: []NodeID{self}, Version: s.Electorate.Version + 1}
	next.Sync = SyncRule{Members: []NodeID{self}, Copies: 1}
	if s.Config.Settings.Durability == DurabilityAsync {
		next.Sync = SyncRule{Members: []NodeID{}}
	}
	next.Wish, next.Paused, next.PauseRev = nil, false, 0
	next.Rev, next.Version = s.Rev+1, s.Version+1
	text := fmt.Sprintf("recovered with %s alone, %d other members were given up; generation %d", m.Name, was-1, next.Generation)
	next.Events = keepLast(append(next.Events, Event{Rev: next.Rev, Epoch: next.Epoch, Wall: wall, By: "recover", Text: text}), maxEvents)
	return next, nil
}
