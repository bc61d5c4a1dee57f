package pgctl

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// moveBox is how long a member that was started at another address may take to be known there. Until then its walsender is
// ended like anybody's: it does not count for commits. Only what is said of it waits. So it is with a walsender without a slot,
// which may be a member's that ends, until it has come again for so long.
const moveBox = 10 * time.Second

// suspect is who streamed under a member's name from an address that was not on record as that member's, or without a slot.
// A walsender has no slot either while it ends (src/backend/replication/slot.c, ReplicationSlotShmemExit comes before
// WalSndKill), which on a starved host takes a while; but no member's ends again and again.
type suspect struct {
	name, addr  string
	slotless    bool
	since, last time.Time // of the first and of the last of its walsenders that was ended
}

type suspects []suspect

// with adds one, or notes that it is there again.
func (s suspects) with(who suspect) suspects {
	for n, x := range s {
		if x.name == who.name && x.addr == who.addr && x.slotless == who.slotless {
			s[n].last = who.last
			return s
		}
	}
	return append(s, who)
}

// judge forgets those who are by now on record at the address that they came from, addrs having that of each member: they are
// the members themselves; and those without a slot who did not come again within moveBox. Those who are not on record after
// moveBox are guilty, and those without a slot who came again for as long; the rest stays to be judged later.
func (s suspects) judge(now time.Time, addrs map[string][]string) (left, guilty suspects) {
	for _, who := range s {
		switch {
		case who.slotless && who.last.Sub(who.since) >= moveBox:
			guilty = append(guilty, who)
		case who.slotless && now.Sub(who.last) >= moveBox:
		case who.slotless:
			left = append(left, who)
		case slices.Contains(addrs[who.name], who.addr):
		case now.Sub(who.since) < moveBox:
			left = append(left, who)
		default:
			guilty = append(guilty, who)
		}
	}
	return left, guilty
}

// accusation says why s is not the member whose name it bears.
func (s Sender) accusation() string {
	switch {
	case s.Elsewhere:
		return fmt.Sprintf("a walsender says that it is %s and comes from %s, which is not on record as its address", s.Name, s.Addr)
	case s.Addr == "":
		return fmt.Sprintf("a walsender says that it is %s and comes over the local socket", s.Name)
	case s.Stray && s.Slot == "":
		return fmt.Sprintf("a walsender says that it is %s and uses no slot", s.Name)
	case s.Stray:
		return fmt.Sprintf("a walsender says that it is %s and uses the slot %q, which is not that member's", s.Name, s.Slot)
	}
	return fmt.Sprintf("a walsender says that it is %s and has logged in as %s", s.Name, s.User)
}

// Evict ends the walsenders, which Status gave as impostors, that are still there. It reports those that can't be the member;
// the others when that is certain.
func (i *Instance) Evict(ctx context.Context, impostors []Sender) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, s := range impostors {
		sql := fmt.Sprintf("SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE pid = %d", s.PID)
		if _, err := i.exec(ctx, sql); err != nil {
			return fmt.Errorf("end an impostor's walsender: %w", err)
		}
		i.accuse(s)
	}
	return nil
}

// accuse notes or reports a walsender that was ended.
func (i *Instance) accuse(s Sender) {
	if slotless := s.Stray && s.Slot == ""; s.Elsewhere || slotless {
		i.log.Info("ended a walsender that is not known as a member's", "member", s.Name, "address", s.Addr, "slot", s.Slot, "pid", s.PID)
		now := time.Now()
		i.note(func() {
			i.accused = i.accused.with(suspect{name: s.Name, addr: s.Addr, slotless: slotless, since: now, last: now})
		})
		return
	}
	i.log.Warn("ended a walsender that used a member's name", "member", s.Name, "address", s.Addr, "user", s.User, "pid", s.PID)
	i.corrected(s.accusation() + "; it was ended")
}

// judge reports the suspects that are guilty.
func (i *Instance) judge() {
	var guilty suspects
	i.note(func() { i.accused, guilty = i.accused.judge(time.Now(), i.names) })
	for _, who := range guilty {
		i.log.Warn("a walsender that was ended used a member's name", "member", who.name, "address", who.addr)
		i.corrected(Sender{Name: who.name, Addr: who.addr, Stray: who.slotless, Elsewhere: !who.slotless}.accusation() + "; it was ended")
	}
}
