package fsm

import (
	"fmt"
	"strings"
)

// checkStopped proves S1: the present primary holds no lease that could still be running. Either it said so itself, or
// a majority of voters promised never to vouch for it again and what was left of their last vouches is over (lease.md
// rules 6 and 8).
func (s *State) checkStopped(c Appoint) error {
	if r := c.Evidence.Release; r != nil {
		if r.Epoch == c.IfEpoch && r.Node == s.Primary {
			return nil
		}
		return fmt.Errorf("%w: the release is by %s for epoch %d, needed is one by %s for epoch %d",
			ErrEvidence, s.Name(r.Node), r.Epoch, s.Name(s.Primary), c.IfEpoch)
	}
	sealed, missing := 0, []string{}
	for _, voter := range s.Electorate.Voters {
		if lack := sealLacks(c.Evidence.Seals, voter, c.IfEpoch); lack != "" {
			missing = append(missing, s.Name(voter)+" "+lack)
			continue
		}
		sealed++
	}
	if sealed < s.Electorate.Majority() {
		return fmt.Errorf("%w: seals of epoch %d by %d of %d voters, %d needed: %s", ErrEvidence,
			c.IfEpoch, sealed, len(s.Electorate.Voters), s.Electorate.Majority(), strings.Join(missing, ", "))
	}
	return nil
}

// sealLacks says what keeps voter from counting; empty: it counts. Of several answers of one voter one good one is
// enough, because each is true for ever.
func sealLacks(seals []Seal, voter NodeID, epoch Epoch) string {
	lack := "did not answer"
	for _, seal := range seals {
		switch {
		case seal.Node != voter:
		case seal.Epoch < epoch:
			lack = fmt.Sprintf("sealed epoch %d only", seal.Epoch)
		case checksWait && (seal.LeftMS < 0 || seal.WaitedMS < seal.LeftMS):
			lack = fmt.Sprintf("waited for %d ms of %d ms", seal.WaitedMS, seal.LeftMS)
		default:
			return ""
		}
	}
	return lack
}

// checkPositions proves S3: among the logs of so many members of D that every acknowledged commit is in one of them, the
// candidate's is the furthest, history first (lease.md rules 13 and 14). It returns the candidate's position; nil when
// D is empty and there is none.
func (s *State) checkPositions(c Appoint) (*Position, error) {
	positions, err := s.usablePositions(c)
	if err != nil {
		return nil, err
	}
	if err := s.checkCoverage(positions); err != nil {
		return nil, err
	}
	var candidate *Position
	for i := range positions {
		if positions[i].Node == c.Node {
			candidate = &positions[i]
		}
	}
	if len(s.Sync.Members) == 0 {
		return candidate, nil
	}
	if !s.Sync.Has(c.Node) {
		return nil, fmt.Errorf("%w: %s is not among those that a commit waits for, %s", ErrEvidence, s.Name(c.Node), s.describe(s.Sync))
	}
	if candidate == nil {
		return nil, fmt.Errorf("%w: no position of the candidate %s", ErrEvidence, s.Name(c.Node))
	}
	for _, p := range positions {
		if s.ahead(p, *candidate) {
			return nil, fmt.Errorf("%w: the log of %s ends at %s on timeline %d, that of the candidate %s at %s on timeline %d", ErrEvidence,
				s.Name(p.Node), p.LSN, p.Timeline, s.Name(c.Node), candidate.LSN, candidate.Timeline)
		}
	}
	return candidate, nil
}

// usablePositions are stillPositions that can be compared. It refuses all if one can't: that could hide a node that is further than
// the candidate.
func (s *State) usablePositions(c Appoint) ([]Position, error) {
	positions, err := s.stillPositions(c)
	if err != nil {
		return nil, err
	}
	for _, p := range positions {
		if !s.placed(p) {
			return nil, fmt.Errorf("%w: the log of %s ends at %s on timeline %d, which has no place in the lineage",
				ErrEvidence, s.Name(p.Node), p.LSN, p.Timeline)
		}
	}
	return positions, nil
}

// placed says that a log ends at a known place of the cluster's history.
func (s *State) placed(p Position) bool {
	_, ours := s.RankOf(p.Timeline)
	return ours && p.LSN != 0
}

// stillPositions returns all given positions and, of a released primary, the end of its log. It refuses any that could still move.
func (s *State) stillPositions(c Appoint) ([]Position, error) {
	positions := []Position{}
	given := map[NodeID]bool{}
	for _, p := range c.Evidence.Positions {
		if given[p.Node] {
			return nil, fmt.Errorf("%w: two positions of %s", ErrEvidence, s.Name(p.Node))
		}
		given[p.Node] = true
		if p.Node == s.Primary {
			if c.Evidence.Release == nil {
				return nil, fmt.Errorf("%w: a position of %s, which may still write: its release is needed", ErrEvidence, s.Name(p.Node))
			}
			continue // the release speaks for it; a position may have been taken before
		}
		if p.Detached < c.IfEpoch {
			return nil, fmt.Errorf("%w: %s detached in epoch %d, %d needed", ErrEvidence, s.Name(p.Node), p.Detached, c.IfEpoch)
		}
		positions = append(positions, p)
	}
	if r := c.Evidence.Release; r != nil && r.FinalLSN != 0 {
		positions = append(positions, Position{Node: r.Node, Detached: r.Epoch, Timeline: r.Timeline, LSN: r.FinalLSN})
	}
	for _, p := range positions {
		if _, ok := s.Members[p.Node]; !ok {
			return nil, fmt.Errorf("%w: a position of %s, which is no member", ErrEvidence, p.Node)
		}
	}
	return positions, nil
}

// checkCoverage counts the members of D that are accounted for.
func (s *State) checkCoverage(positions []Position) error {
	have, missing := 0, []NodeID{}
	for _, id := range s.Sync.Members {
		if hasPosition(positions, id) {
			have++
		} else {
			missing = append(missing, id)
		}
	}
	if need := PositionsNeeded(s.Sync); have < need {
		return fmt.Errorf("%w: %d of %d positions needed while a commit is on %s: missing %s", ErrEvidence,
			have, need, s.describe(s.Sync), strings.Join(s.Names(missing), ", "))
	}
	return nil
}

func hasPosition(positions []Position, id NodeID) bool {
	for _, p := range positions {
		if p.Node == id {
			return true
		}
	}
	return false
}

// ahead reports whether a holds something that b may lack: a later history, or more of the same. A longer log of an
// earlier history is a tail that was never acknowledged.
func (s *State) ahead(a, b Position) bool {
	rankA, _ := s.RankOf(a.Timeline)
	rankB, _ := s.RankOf(b.Timeline)
	if rankA != rankB {
		return rankA > rankB
	}
	return a.LSN > b.LSN
}
