package fsm

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// WishFailover is the Kind of a Wish that asks for another primary at once: the present one gets little time to end in good
// order. With a Loss it asks for one that may lack acknowledged commits.
const WishFailover = "failover"

// AskFailover records a Wish of that kind (Version only). Loss is empty, or the LossToken of what an operator has seen and
// accepts; then it takes the place of any other wish, which nobody could carry out any more.
type AskFailover struct {
	ID    string `json:"id"`
	To    NodeID `json:"to"`
	Epoch Epoch  `json:"epoch"` // the present one
	Loss  string `json:"loss,omitempty"`
}

// Kind is "ask-failover".
func (AskFailover) Kind() string { return "ask-failover" }

func (AskFailover) nature() nature { return footnote() }

func (c AskFailover) apply(next *State) (string, error) {
	if c.Epoch != next.Epoch {
		return "", fmt.Errorf("%w: the failover was asked for in epoch %d, now it is %d", ErrStaleEpoch, c.Epoch, next.Epoch)
	}
	if len(c.Loss) > maxText {
		return "", fmt.Errorf("%w: the accepted loss has %d bytes, at most %d are allowed", ErrInvalid, len(c.Loss), maxText)
	}
	if c.Loss != "" {
		next.Wish = nil
	}
	if err := next.mayWish(c.ID, c.To); err != nil {
		return "", err
	}
	if c.To == "" {
		return "", fmt.Errorf("%w: a failover names its candidate", ErrNotMember)
	}
	next.Wish = &Wish{ID: c.ID, Kind: WishFailover, To: c.To, Epoch: next.Epoch, Loss: c.Loss}
	if c.Loss != "" {
		return fmt.Sprintf("failover to %s asked for; that acknowledged commits may be lost is accepted", next.Name(c.To)), nil
	}
	return fmt.Sprintf("failover to %s asked for", next.Name(c.To)), nil
}

// LossToken stands for what is known of all logs when candidate would become primary in place of the one of epoch. Whoever
// accepts a loss names it by this, so that he can't accept another one than he was shown.
func LossToken(clusterID string, epoch Epoch, candidate NodeID, positions []Position) string {
	positions = slices.Clone(positions)
	slices.SortFunc(positions, func(a, b Position) int { return cmp.Compare(a.Node, b.Node) })
	var text strings.Builder
	fmt.Fprintf(&text, "%q %d %q\n", clusterID, epoch, candidate)
	for _, p := range positions {
		fmt.Fprintf(&text, "%q %d %s\n", p.Node, p.Timeline, p.LSN)
	}
	sum := sha256.Sum256([]byte(text.String()))
	return hex.EncodeToString(sum[:10])
}

// acceptedLoss returns the candidate's position if an operator has accepted exactly what this Appoint gives up: this epoch,
// this node, these logs. Nothing else stands for the positions that it lacks (docs/decisions/0022). Only the candidate's log needs a
// place in the lineage. Another one without is given up like the rest, so it has to be in the token like the rest.
func (s *State) acceptedLoss(c Appoint) (*Position, bool) {
	positions, err := s.stillPositions(c)
	if err != nil || s.Wish == nil || s.Wish.Loss != LossToken(s.ClusterID, c.IfEpoch, c.Node, positions) {
		return nil, false
	}
	at := slices.IndexFunc(positions, func(p Position) bool { return p.Node == c.Node })
	if at < 0 || !s.placed(positions[at]) {
		return nil, false
	}
	return &positions[at], true
}

// takeIn makes the new primary one of D, in which it always is. One member more with as many copies makes elections
// stricter (lease.md rule 17): from now on they need its log, too.
func (r SyncRule) takeIn(id NodeID) SyncRule {
	if len(r.Members) == 0 || r.Has(id) {
		return r
	}
	members, _ := sortedSet(append(slices.Clone(r.Members), id))
	return SyncRule{Members: members, Copies: r.Copies}
}
