package pgctl

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/pgctl/guard"
)

// TestUndying: a run that is being killed and does not end is a sickness, although no probe of it is made any more.
func TestUndying(t *testing.T) {
	const failoverAfter, since = time.Second, 5 * time.Second
	for _, c := range []struct {
		what  string
		state guard.State
		after time.Duration
		sick  bool
	}{
		{"being killed for long", guard.StateKilling, failoverAfter, true},
		{"being killed since a moment ago", guard.StateKilling, failoverAfter - 1, false},
		{"frozen for long", guard.StateFrozen, time.Minute, false},
		{"running", guard.StateRunning, time.Minute, false},
		{"gone", guard.StateEmpty, time.Minute, false},
	} {
		s := undying(guard.View{State: c.state, Since: since, Verdict: guard.VerdictStop}, since+c.after, failoverAfter)
		if (s != nil) != c.sick || s != nil && (s.For != c.after || s.String() != "Postgres is being killed: its processes do not end, as in a disk that hangs") {
			t.Errorf("%s: %+v", c.what, s)
		}
	}
}

// TestStreak: sick is three failures in a row over one and a half failover_after, whichever way they fail.
func TestStreak(t *testing.T) {
	const every = 250 * time.Millisecond // failover_after 1 s
	type try struct {
		begins, ends time.Duration // ends 0: it does not
		err          error
	}
	ms := func(n int) time.Duration { return time.Duration(n) * time.Millisecond }
	every250 := func(from, to int, err error) []try {
		var out []try
		for n := from; n <= to; n += 250 {
			out = append(out, try{ms(n), ms(n + 10), err})
		}
		return out
	}
	full := fmt.Errorf("write: %w", unix.ENOSPC)
	for _, c := range []struct {
		name  string
		tries []try
		now   time.Duration
		want  string
		fails int
	}{
		{"nothing was tried", nil, ms(5000), "", 0},
		{"all is well", every250(0, 2000, nil), ms(2010), "", 0},
		{"failing, not for long enough", every250(1000, 2250, io.EOF), ms(2499), "", 6},
		{"failing for long enough", every250(1000, 2250, io.EOF), ms(2500), "the data directory can't be written: EOF", 6},
		{"a disk that is full", every250(1000, 2500, full), ms(2600), "the data directory can't be written: its disk is full; make room", 7},
		{"a quota that is used up", every250(1000, 2500, unix.EDQUOT), ms(2600), "the data directory can't be written: its disk is full; make room", 7},
		{"read-only", every250(1000, 2500, unix.EROFS), ms(2600), "the data directory can't be written: its file system is read-only", 7},
		{"one success between", append(append(every250(1000, 2000, io.EOF), try{ms(2250), ms(2260), nil}), every250(2500, 3000, io.EOF)...), ms(3400), "", 3},
		{"long but only two", []try{{ms(1000), ms(1010), io.EOF}, {ms(2400), ms(2410), io.EOF}}, ms(2600), "", 2},
		{"one that hangs, not for long enough", []try{{ms(1000), 0, nil}}, ms(2499), "", 5},
		{"one that hangs", []try{{ms(1000), 0, nil}}, ms(2500), "the data directory can't be written: a try does not return", 6},
		{"one that hung and came back", []try{{ms(1000), ms(2600), nil}}, ms(2700), "", 0},
		{"one that is only slow", []try{{ms(1000), 0, nil}}, ms(1240), "", 0},
		{"failures, then a hang", append(every250(1000, 1500, io.EOF), try{ms(1750), 0, nil}), ms(2500), "the data directory can't be written: a try does not return", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := streak{}
			for _, x := range c.tries {
				if !s.idle() {
					t.Fatal("a try began while another was under way")
				}
				s = s.begin(x.begins)
				if x.ends > 0 {
					s = s.end(outcomeOf(x.err))
				}
			}
			got := ""
			if sick := s.sickness(ProbeData, c.now, every); sick != nil {
				got = sick.String()
			}
			if got != c.want {
				t.Errorf("sick %q, want %q", got, c.want)
			}
			if n := s.at(c.now, every).failures; n != c.fails {
				t.Errorf("%d failures, want %d", n, c.fails)
			}
		})
	}
}

// TestConnectOutcome: a server that says why it can't take a session now is not hung.
func TestConnectOutcome(t *testing.T) {
	for code, failed := range map[string]bool{
		"53300": false, "57P03": false, "57P02": false, "57P01": false, "28000": false, "28P01": false, "3D000": false,
		"53100": true, "58030": true, "XX000": true, "53200": true,
	} {
		err := fmt.Errorf("connect: %w", &pgconn.PgError{Code: code})
		if got := outcomeOfConnect(err).failed; got != failed {
			t.Errorf("SQLSTATE %s: failed %v, want %v", code, got, failed)
		}
	}
	if !outcomeOfConnect(errors.New("timeout")).failed || outcomeOfConnect(nil).failed {
		t.Error("no answer must be a failure and an answer none")
	}
}

// TestExcused: an attempt that waits for a CPU only does not count, until it waits for something else.
func TestExcused(t *testing.T) {
	const every = 250 * time.Millisecond
	s := streak{}.begin(0)
	for now := every; now <= 10*every; now += every {
		if s = s.excuse(now); s.sickness(ProbeConnect, now+every, every) != nil {
			t.Fatalf("sick at %s although it was excused at each look", now)
		}
	}
	if s.sickness(ProbeConnect, 15*every, every) != nil || s.sickness(ProbeConnect, 16*every, every) == nil {
		t.Error("want sick one and a half failover_after after the last excuse, not earlier")
	}
	for _, c := range []struct {
		state  byte
		waited time.Duration
		want   bool
	}{{'R', 0, true}, {'S', 0, false}, {'S', 100 * time.Millisecond, true}, {'T', 0, false}, {'D', 10 * time.Millisecond, false}, {0, 0, false}} {
		if got := waits(c.state, c.waited, every); got != c.want {
			t.Errorf("state %c, waited %s: %v, want %v", c.state, c.waited, got, c.want)
		}
	}
}
