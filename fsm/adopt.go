package fsm

import (
	"fmt"
	"slices"

	"github.com/quorate/quorate/internal/pg"
)

// adopt takes over data that was there before. Everybody that it names has to be a data node, and nobody twice: what is kept
// and what is set aside follows from it.
func (s *State) adopt(a *Adoption) error {
	if a == nil {
		return nil
	}
	if err := s.Electable(a.Node); err != nil {
		return fmt.Errorf("adopt data: %w", err)
	}
	if a.SystemID == 0 || a.Timeline == 0 || a.Parent >= a.Timeline {
		return fmt.Errorf("%w: adopt system %s, timeline %d from %d", ErrInvalid, a.SystemID, a.Timeline, a.Parent)
	}
	own := a.Timeline
	if a.Parent != 0 {
		own = a.Parent
	}
	if err := a.History.Check(own); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	others := append(append([]NodeID{}, a.Keep...), a.Aside...)
	for _, id := range others {
		if m, ok := s.Members[id]; !ok || m.Role != RoleData || id == a.Node {
			return fmt.Errorf("%w: %s has no data beside those adopted", ErrInvalid, s.Name(id))
		}
	}
	if _, once := sortedSet(others); !once {
		return fmt.Errorf("%w: data of one member is both kept and set aside", ErrInvalid)
	}
	s.Adopted = a.clone()
	return nil
}

func (a *Adoption) clone() *Adoption {
	if a == nil {
		return nil
	}
	c := *a
	c.History = append(pg.History(nil), a.History...)
	c.Keep, c.Aside = append([]NodeID(nil), a.Keep...), append([]NodeID(nil), a.Aside...)
	return &c
}

// Adopting says that id has yet to open the data that the cluster begins with. Nobody else has them, whatever happens. Until then
// nobody else can be appointed, so whichever assignment was promoted first is of id: not always epoch 1, if id crashed between
// its promotion and telling of it.
func (s State) Adopting(id NodeID) bool {
	return s.Adopted != nil && s.Adopted.Node == id && !slices.ContainsFunc(s.Lineage, func(l Lineage) bool { return l.Promoted })
}
