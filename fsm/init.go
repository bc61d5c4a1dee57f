package fsm

import "fmt"

// Kind is "init".
func (Init) Kind() string { return "init" }

func (Init) nature() nature { return unbound() }

// apply makes the cluster: every member without NoVote is a voter from the start, nobody is primary.
func (c Init) apply(next *State) (string, error) {
	if next.ClusterID != "" {
		return "", fmt.Errorf("%w: this is cluster %s", ErrExists, next.ClusterID)
	}
	if c.ClusterID == "" || c.Scope == "" {
		return "", fmt.Errorf("%w: a cluster needs an id (%q) and a scope (%q)", ErrInvalid, c.ClusterID, c.Scope)
	}
	if err := c.Config.Settings.check(); err != nil {
		return "", err
	}
	next.ClusterID, next.Scope, next.Config = c.ClusterID, c.Scope, c.Config
	next.Config.Earlier = []ConfigVersion{}
	next.Generation, next.MinVersion = 1, release
	var voters []NodeID
	for _, m := range c.Members {
		if _, twice := next.Members[m.ID]; twice {
			return "", fmt.Errorf("%w: member %s is listed twice", ErrInvalid, m.ID)
		}
		if err := next.putMember(m); err != nil {
			return "", err
		}
		if !m.NoVote {
			voters = append(voters, m.ID)
		}
	}
	next.Electorate = Electorate{Version: 1}
	next.Electorate.Voters, _ = sortedSet(voters)
	if err := next.Electorate.check(); err != nil {
		return "", err
	}
	if err := next.adopt(c.Adopted); err != nil {
		return "", err
	}
	return fmt.Sprintf("cluster %s initialised with %d members, %d of them voters", c.Scope, len(c.Members), len(voters)), nil
}

// check refuses settings that no rule could read.
func (s Settings) check() error {
	if s.FailoverAfterMS <= 0 {
		return fmt.Errorf("%w: failover_after is %d ms, it must be positive", ErrInvalid, s.FailoverAfterMS)
	}
	if s.Durability != DurabilityQuorum && s.Durability != DurabilityAsync {
		return fmt.Errorf("%w: durability is %q, it must be %q or %q", ErrInvalid, s.Durability, DurabilityQuorum, DurabilityAsync)
	}
	return nil
}
