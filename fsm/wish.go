package fsm

import (
	"fmt"
	"strings"
)

// WishSwitchover is the Kind of a Wish that asks for another primary.
const WishSwitchover = "switchover"

// WishAsked says that the text of an event tells of a wish for another primary that was recorded, and WishDropped of one that
// was dropped.
func WishAsked(text string) bool { return aboutWish(text) && strings.Contains(text, " asked for") }

// WishDropped is the other one.
func WishDropped(text string) bool { return aboutWish(text) && strings.Contains(text, " dropped: ") }

func aboutWish(text string) bool {
	return strings.HasPrefix(text, WishSwitchover+" to ") || strings.HasPrefix(text, WishFailover+" to ")
}

// Kind is "ask-switchover".
func (AskSwitchover) Kind() string { return "ask-switchover" }

func (AskSwitchover) nature() nature { return footnote() }

func (c AskSwitchover) apply(next *State) (string, error) {
	if err := next.mayWish(c.ID, c.To); err != nil {
		return "", err
	}
	next.Wish = &Wish{ID: c.ID, Kind: WishSwitchover, To: c.To, Epoch: next.Epoch}
	return fmt.Sprintf("switchover to %s asked for", next.target(c.To)), nil
}

// mayWish refuses a wish for another primary that can't be recorded. To may be empty: the best standby.
func (s *State) mayWish(id string, to NodeID) error {
	switch {
	case id == "" || len(id) > maxText:
		return fmt.Errorf("%w: the id of a wish has %d bytes, 1 to %d are allowed", ErrInvalid, len(id), maxText)
	case s.Paused:
		return fmt.Errorf("%w: resume it before a switchover", ErrPaused)
	case s.Primary == "":
		return fmt.Errorf("%w: there is no primary to switch over from", ErrStaleEpoch)
	case s.Wish != nil:
		return fmt.Errorf("%w: %s %s to %s is pending: wait for its end, or take it back (DELETE /switchover)", ErrExists,
			s.Wish.Kind, s.Wish.ID, s.target(s.Wish.To))
	case to == "":
		return nil
	}
	return s.checkTarget(to)
}

// Kind is "begin-switchover".
func (BeginSwitchover) Kind() string { return "begin-switchover" }

func (BeginSwitchover) nature() nature { return footnote() }

func (c BeginSwitchover) apply(next *State) (string, error) {
	wish, err := next.wish(c.ID)
	if err != nil {
		return "", err
	}
	switch {
	case next.Paused:
		return "", fmt.Errorf("%w: resume it before a switchover", ErrPaused)
	case wish.Loss != "":
		return "", fmt.Errorf("%w: %s is for a primary that is gone; there is nobody to hand over", ErrExists, wish.ID)
	case wish.Epoch != next.Epoch:
		return "", fmt.Errorf("%w: the wish was made in epoch %d, now it is %d", ErrStaleEpoch, wish.Epoch, next.Epoch)
	case wish.To != "" && wish.To != c.To:
		return "", fmt.Errorf("%w: the wish names %s, not %s", ErrExists, next.Name(wish.To), next.Name(c.To))
	}
	if err := next.checkTarget(c.To); err != nil {
		return "", err
	}
	wish.To, wish.Approved = c.To, true
	return fmt.Sprintf("%s to %s begins", wish.Kind, next.Name(c.To)), nil
}

// Kind is "end-wish".
func (EndWish) Kind() string { return "end-wish" }

func (EndWish) nature() nature { return footnote() }

func (c EndWish) apply(next *State) (string, error) {
	wish, err := next.wish(c.ID)
	if err != nil {
		return "", err
	}
	if len(c.Because) > maxText {
		return "", fmt.Errorf("%w: the reason has %d bytes, at most %d are allowed", ErrInvalid, len(c.Because), maxText)
	}
	text := fmt.Sprintf("%s to %s dropped: %s", wish.Kind, next.target(wish.To), c.Because)
	next.Wish = nil
	return text, nil
}

// wish returns the pending wish if it has this id.
func (s *State) wish(id string) (*Wish, error) {
	if s.Wish == nil {
		return nil, fmt.Errorf("%w: nothing is pending, so not %q either", ErrNoWish, id)
	}
	if s.Wish.ID != id {
		return nil, fmt.Errorf("%w: %q is pending, not %q", ErrNoWish, s.Wish.ID, id)
	}
	return s.Wish, nil
}

// checkTarget refuses a node that cannot become primary or is it already.
func (s *State) checkTarget(to NodeID) error {
	if to == s.Primary {
		return fmt.Errorf("%w: %s is the primary", ErrExists, s.Name(to))
	}
	return s.Electable(to)
}

func (s *State) target(to NodeID) string {
	if to == "" {
		return "the best standby"
	}
	return s.Name(to)
}
