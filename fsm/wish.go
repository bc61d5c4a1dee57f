package fsm

import "fmt"

// WishSwitchover is the Kind of a Wish that asks for another primary.
const WishSwitchover = "switchover"

// Kind is "ask-switchover".
func (AskSwitchover) Kind() string { return "ask-switchover" }

func (AskSwitchover) nature() nature { return footnote() }

func (c AskSwitchover) apply(next *State) (string, error) {
	switch {
	case c.ID == "" || len(c.ID) > maxText:
		return "", fmt.Errorf("%w: the id of a wish has %d bytes, 1 to %d are allowed", ErrInvalid, len(c.ID), maxText)
	case next.Paused:
		return "", fmt.Errorf("%w: resume it before a switchover", ErrPaused)
	case next.Primary == "":
		return "", fmt.Errorf("%w: there is no primary to switch over from", ErrStaleEpoch)
	case next.Wish != nil:
		return "", fmt.Errorf("%w: %s %s to %s is pending: wait for its end, or take it back (DELETE /switchover)", ErrExists, next.Wish.Kind, next.Wish.ID, next.target(next.Wish.To))
	}
	if c.To != "" {
		if err := next.checkTarget(c.To); err != nil {
			return "", err
		}
	}
	next.Wish = &Wish{ID: c.ID, Kind: WishSwitchover, To: c.To, Epoch: next.Epoch}
	return fmt.Sprintf("switchover to %s asked for", next.target(c.To)), nil
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
	case wish.Epoch != next.Epoch:
		return "", fmt.Errorf("%w: the wish was made in epoch %d, now it is %d", ErrStaleEpoch, wish.Epoch, next.Epoch)
	case wish.To != "" && wish.To != c.To:
		return "", fmt.Errorf("%w: the wish names %s, not %s", ErrExists, next.Name(wish.To), next.Name(c.To))
	}
	if err := next.checkTarget(c.To); err != nil {
		return "", err
	}
	wish.To, wish.Approved = c.To, true
	return fmt.Sprintf("switchover to %s begins", next.Name(c.To)), nil
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
