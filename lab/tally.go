package lab

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/lab/history"
	"github.com/quorate/quorate/lab/judge"
)

// chaosTally is what all rounds come to.
type chaosTally struct {
	rounds, writes, unknown, accesses, sights int
	lost                                      int // at the end, with async: all of them in evidence
	registers, undecided                      int // judged, and those of them that were not decided
	unjudged                                  int // rounds that async may have taken something back in
	faults                                    map[string]*dealt
}

// dealt is what became of one kind of fault. A fault was made if a step of it was, and in part if none of those that hit a set of
// processes hit all of the set.
type dealt struct {
	Made   int                  `json:"made"`
	Part   int                  `json:"in_part"` // of those
	Failed int                  `json:"not_made"`
	Why    string               `json:"why,omitempty"`     // of the last that was not made
	Gaps   map[string][]float64 `json:"gaps_ms,omitempty"` // by who was hit
}

// of returns what became of a kind, to be changed.
func (t *chaosTally) of(kind string) *dealt {
	if t.faults == nil {
		t.faults = map[string]*dealt{}
	}
	if t.faults[kind] == nil {
		t.faults[kind] = &dealt{Gaps: map[string][]float64{}}
	}
	return t.faults[kind]
}

// count counts the faults of a round, and the gap around each that was made.
func (t *chaosTally) count(strikes []Strike, run history.Run) {
	for _, s := range strikes {
		d := t.of(s.Fault)
		if s.At == 0 {
			d.Failed, d.Why = d.Failed+1, s.Why
			continue
		}
		d.Made++
		if s.Part {
			d.Part++
		}
		run.Fault = s.At
		whom := hitOther
		if s.Primary {
			whom = hitPrimary
		}
		d.Gaps[whom] = append(d.Gaps[whom], history.Compute(run).WriteGap)
	}
}

// dealtEnough is how often a kind of fault is dealt until never to have been made is an error. A deal may find nobody to hit, or what
// an ambush waits for not happen; five in a row are a fault that nobody can make.
const dealtEnough = 5

// errNeverMade says that a run did not try what it is for.
var errNeverMade = errors.New("never made")

// neverMade are the kinds of which none was made, with how often they were dealt and why the last was not.
func (t *chaosTally) neverMade(kinds []string, atLeast int) (all []string) {
	for _, k := range kinds {
		if d := t.of(k); d.Made == 0 && d.Failed >= atLeast {
			all = append(all, fmt.Sprintf("%s (dealt %d times; the last time: %s)", k, d.Failed, d.Why))
		}
	}
	return all
}

// tried is an error if a kind of fault was dealt often enough and never made: all the same it would be green.
func (t *chaosTally) tried(kinds []string) error {
	if all := t.neverMade(kinds, dealtEnough); len(all) > 0 {
		return fmt.Errorf("%w, though dealt %d times or more: %s", errNeverMade, dealtEnough, strings.Join(all, "; "))
	}
	return nil
}

// sum says what it all came to, and keeps it.
func (c *chaos) sum() error {
	t := &c.tally
	c.say("end: %d rounds with seed %d", t.rounds, c.o.Seed)
	c.sumFaults()
	c.l.say("  not made by any seed: a jump of the wall clock of daemons, since time namespaces have no offset for it, and a static program"+
		" loads no library that could tell it another one (docs/decisions/0020); %s", c.lacks())
	c.l.say("  %d writes acknowledged, %d without an answer, %d lost; %d attempts on registers; %d looks of readers",
		t.writes, t.unknown, t.lost, t.accesses, t.sights)
	if t.unjudged > 0 {
		c.l.say("  in %d rounds with a failover reads were not judged: durability async may take back what was acknowledged", t.unjudged)
	}
	counts := map[judge.Check]int{}
	for _, v := range c.found {
		counts[v.Check]++
	}
	for _, check := range judge.Checks() {
		but := ""
		if check == judge.Registers {
			but = fmt.Sprintf("; of %d registers %d were not decided", t.registers, t.undecided)
		}
		c.l.say("  %-16s %d violations%s", check, counts[check], but)
	}
	c.l.say("  raw history and logs: %s", c.dir)
	c.l.say("  the same again: %s", c.o.again())
	return c.note("summary.json", map[string]any{"seed": c.o.Seed, "again": c.o.again(), "faults": t.faults, "found": c.found,
		"registers": t.registers, "undecided": t.undecided})
}

// sumFaults says what was made, and what was not.
func (c *chaos) sumFaults() {
	dealt := slices.DeleteFunc(slices.Clone(c.kinds), func(k string) bool { d := c.tally.of(k); return d.Made+d.Failed == 0 })
	c.l.say("  %-52s %5s %8s %8s", "fault", "made", "in part", "not made")
	for _, k := range dealt {
		d := c.tally.of(k)
		c.l.say("  %-52s %5d %8d %8d", k, d.Made, d.Part, d.Failed)
	}
	for _, k := range c.tally.neverMade(dealt, 1) {
		c.l.say("  NEVER MADE: %s", k)
	}
	if n := len(c.kinds) - len(dealt); n > 0 {
		c.l.say("  %d of %d kinds of faults were never dealt: the run was too short for them", n, len(c.kinds))
	}
	c.l.say("  longest time without an acknowledgement from 1 s before each fault to 10 s after it, in seconds; faults that overlap share it:")
	c.l.say("  %-70s%s", "", history.HistogramHead())
	for _, k := range dealt {
		for _, whom := range []string{hitOther, hitPrimary} {
			if g := c.tally.of(k).Gaps[whom]; len(g) > 0 {
				c.l.say("  %-70s%s", k+whom, history.HistogramOf(g))
			}
		}
	}
}

// Who was hit.
const (
	hitPrimary = " (the primary)"
	hitOther   = " (others)"
)
