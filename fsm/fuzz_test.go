package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand"
	"testing"
)

// grounds are the states that commands are tried on: none, a healthy cluster, a paused one, and one with a history.
func grounds(t testing.TB) []State {
	t.Helper()
	return []State{{}, three(t), must(t, three(t), Pause{}), branched(t)}
}

// Whatever decodes, encodes again to bytes that mean the same. On any state it is refused, and nothing has changed, or it is
// applied, and all holds that the other parts rely on.
func FuzzDecodeCommand(f *testing.F) {
	for _, change := range goldenCommands() {
		for _, rev := range []uint64{0, 7, 12} {
			seed, err := EncodeCommand(Envelope{ID: "r-1", IfRev: rev, By: "primary-silent", Wall: 3, Change: change})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(seed)
		}
	}
	f.Add([]byte(`{"format":1,"kind":"dance","optional":true,"id":"x","change":{"unknown":[1,2]}}`))
	states := grounds(f)
	f.Fuzz(func(t *testing.T, input []byte) {
		e, err := DecodeCommand(input)
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnknownCommand) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		once, err := EncodeCommand(e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := DecodeCommand(once)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := EncodeCommand(back)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s became %s, %v", once, twice, err)
		}
		for _, s := range states {
			for _, rev := range []uint64{e.IfRev, s.Rev} { // most would be refused as stale
				e.IfRev, back.IfRev = rev, rev
				tryBoth(t, s, e, back)
			}
		}
	})
}

// tryBoth applies a command and its copy and holds what must be true whatever they are.
func tryBoth(t *testing.T, s State, e, copied Envelope) {
	t.Helper()
	before := encoded(t, s)
	a, errA := s.Apply(e)
	b, errB := s.Apply(copied)
	if fmt.Sprint(errA) != fmt.Sprint(errB) || !sameState(t, a, b) {
		t.Fatalf("%+v and its copy differ: %v, %v", e, errA, errB)
	}
	if !bytes.Equal(before, encoded(t, s)) {
		t.Fatalf("%+v changed the state that it was applied to", e)
	}
	if errA != nil {
		if !bytes.Equal(before, encoded(t, a)) {
			t.Fatalf("%+v was refused, but changed something: %v", e, errA)
		}
		return
	}
	if a.Version != s.Version+1 {
		t.Fatalf("%+v: version %d follows %d", e, a.Version, s.Version)
	}
	checkStep(t, s, a, e.Change)
	back, err := DecodeState(encoded(t, a))
	if err != nil || !sameState(t, back, a) {
		t.Fatalf("%+v: the state does not survive its snapshot: %v", e, err)
	}
	if _, err := a.Apply(e); !errors.Is(err, ErrDuplicate) {
		t.Fatalf("%+v was taken twice: %v", e, err)
	}
}

// Whatever decodes as a state, encodes to bytes that decode to the same, and every reader and command copes with it.
func FuzzDecodeState(f *testing.F) {
	for _, s := range grounds(f) {
		f.Add(encoded(f, s))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		s, err := DecodeState(input)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		once := encoded(t, s)
		back, err := DecodeState(once)
		if err != nil || !bytes.Equal(encoded(t, back), once) {
			t.Fatalf("%s: %v", once, err)
		}
		for _, change := range append([]Command{good()}, changes(goldenCommands())...) {
			next, err := try(s, change)
			if err == nil {
				next.OrdersFor(next.Primary)
			} else if !bytes.Equal(encoded(t, next), once) {
				t.Fatalf("%#v was refused, but changed something: %v", change, err)
			}
		}
		for id := range s.Members {
			s.OrdersFor(id)
			if next, err := s.Recovered(id, "another", 1); err == nil {
				next.OrdersFor(id)
			}
		}
		NextSync(s.Sync, SyncFacts{Primary: s.Primary, Settings: s.Config.Settings, CaughtUp: s.Electorate.Voters})
		for _, l := range s.Lineage {
			s.LineageHistory(l.Timeline)
			s.SwitchAfter(l.Timeline)
			s.RankOf(l.Timeline)
		}
	})
}

// tape is chance that the fuzzer writes: eight bytes for each number, and zero when it has ended.
type tape struct{ rest []byte }

func (c *tape) Int63() int64 { return int64(c.Uint64() >> 1) }
func (c *tape) Seed(int64)   {}

func (c *tape) Uint64() uint64 {
	var next [8]byte
	c.rest = c.rest[copy(next[:], c.rest):]
	return binary.LittleEndian.Uint64(next[:])
}

// TestRandomStreams with streams that the fuzzer searches for: from any state that is reached, any command is refused and
// changes nothing, or is applied and breaks nothing, on a node that restarted just before as well.
func FuzzStream(f *testing.F) {
	for seed := range int64(3) {
		b := make([]byte, 1024)
		rand.New(rand.NewSource(seed)).Read(b)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, chance []byte) {
		if len(chance) > 2<<10 { // a longer stream takes long and finds no more
			return
		}
		c := &tape{chance}
		d := dice{rand.New(c)}
		s := State{}
		for i := 0; len(c.rest) > 0; i++ {
			change := d.command(s)
			e := Envelope{ID: fmt.Sprint("r", i), IfRev: pick(d, s.Rev, s.Rev, s.Rev, uint64(d.Intn(9))), By: "dice", Wall: int64(i), Change: change}
			wire, err := EncodeCommand(e)
			if err != nil {
				t.Fatal(err)
			}
			read, err := DecodeCommand(wire)
			if err != nil {
				t.Fatal(err)
			}
			restarted, err := DecodeState(encoded(t, s))
			if err != nil {
				t.Fatal(err)
			}
			tryBoth(t, s, e, read)
			a, errA := s.Apply(e)
			b, errB := restarted.Apply(read)
			if fmt.Sprint(errA) != fmt.Sprint(errB) || !sameState(t, a, b) {
				t.Fatalf("step %d, %#v: one that restarted differs: %v, %v", i, change, errA, errB)
			}
			s = a
		}
	})
}
