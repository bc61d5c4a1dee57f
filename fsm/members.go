package fsm

import "fmt"

// maxName is what remains of PostgreSQL's 63 bytes for an application_name after the first letter.
const maxName = 63

// Kind is "set-member".
func (SetMember) Kind() string { return "set-member" }

func (SetMember) nature() nature { return footnote() }

func (c SetMember) apply(next *State) (string, error) {
	old, had := next.Members[c.Member.ID]
	if c.Member.Leaving && c.Member.ID == next.Primary {
		return "", fmt.Errorf("%w: %s is the primary; it can be removed after a switchover", ErrExists, next.Name(c.Member.ID))
	}
	if err := next.putMember(c.Member); err != nil {
		return "", err
	}
	switch {
	case !had:
		return fmt.Sprintf("member %s added", c.Member.Name), nil
	case c.Member.Leaving && !old.Leaving:
		return fmt.Sprintf("member %s is being removed", c.Member.Name), nil
	}
	return fmt.Sprintf("member %s updated", c.Member.Name), nil
}

// Kind is "remove-member".
func (RemoveMember) Kind() string { return "remove-member" }

// nature: what was decided about a member before must not bring it back.
func (RemoveMember) nature() nature { return unbound() }

// apply forgets a member last of all. One that still votes or whose copy still counts would be a voter or a holder of commits
// that nobody can ask.
func (c RemoveMember) apply(next *State) (string, error) {
	m, ok := next.Members[c.ID]
	switch {
	case !ok:
		return "", fmt.Errorf("%w: %s", ErrNotMember, c.ID)
	case !m.Leaving:
		return "", fmt.Errorf("%w: nobody asked for the removal of %s", ErrExists, m.Name)
	case c.ID == next.Primary:
		return "", fmt.Errorf("%w: %s is the primary", ErrExists, m.Name)
	case next.Electorate.Has(c.ID):
		return "", fmt.Errorf("%w: %s still votes", ErrElectorate, m.Name)
	case next.Sync.Has(c.ID):
		return "", fmt.Errorf("%w: commits still count on the copy of %s", ErrUnsafeSync, m.Name)
	}
	delete(next.Members, c.ID)
	if w := next.Wish; w != nil && w.To == c.ID {
		next.Wish = nil
	}
	return fmt.Sprintf("member %s removed", m.Name), nil
}

// putMember adds or replaces a member. Role and name of a member never change: Postgres counts copies by the name
// (application_name), so a name that moved to another node would let the wrong copy acknowledge a commit.
func (s *State) putMember(m Member) error {
	if m.ID == "" || len(m.ID) > maxText {
		return fmt.Errorf("%w: the id of member %q has %d bytes, 1 to %d are allowed", ErrInvalid, m.Name, len(m.ID), maxText)
	}
	if !validName(m.Name) {
		return fmt.Errorf("%w: %q is not a node name: a lower-case letter, then up to %d of a-z, 0-9, _ and -", ErrInvalid, m.Name, maxName-1)
	}
	if m.Role != RoleData && m.Role != RoleWitness {
		return fmt.Errorf("%w: the role of %s is %q, it must be %q or %q", ErrInvalid, m.Name, m.Role, RoleData, RoleWitness)
	}
	if old, ok := s.Members[m.ID]; ok && (old.Name != m.Name || old.Role != m.Role) {
		return fmt.Errorf("%w: member %s is %s %s for ever and cannot become %s %s; join it anew with an empty data_dir",
			ErrExists, m.ID, old.Role, old.Name, m.Role, m.Name)
	}
	if old := s.Members[m.ID]; old.Leaving && !m.Leaving {
		return fmt.Errorf("%w: %s is being removed; once it is gone, join it anew with an empty cluster.data_dir", ErrExists, m.Name)
	}
	if m.Major < 0 || len(m.Addr) > maxText || len(m.API) > maxText || len(m.Postgres) > maxText {
		return fmt.Errorf("%w: an address of %s has more than %d bytes, or its PostgreSQL is version %d", ErrInvalid, m.Name, maxText, m.Major)
	}
	for id, other := range s.Members {
		if id != m.ID && other.Name == m.Name {
			return fmt.Errorf("%w: the name %s belongs to member %s", ErrExists, m.Name, id)
		}
	}
	s.Members[m.ID] = m
	return nil
}

// validName accepts [a-z][a-z0-9_-]{0,62}: names in synchronous_standby_names are case-insensitive (DETAILS 24).
func validName(name string) bool {
	if len(name) == 0 || len(name) > maxName || name[0] < 'a' || name[0] > 'z' {
		return false
	}
	for _, r := range name {
		lower, digit := r >= 'a' && r <= 'z', r >= '0' && r <= '9'
		if !lower && !digit && r != '_' && r != '-' {
			return false
		}
	}
	return true
}
