package pgctl

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/quorate/quorate/internal/pg"
)

// Ordering is what the values of the settings in pg.HotStandby that may stand in this node's file follow from. A standby
// that runs with less than the log which it replays says stops replaying, so they are raised on standbys first and lowered
// on the primary first, one restart after the other.
type Ordering struct {
	Wanted   map[string]string        // as configured; one that is not named stays as it is
	Primary  bool                     // this node is primary or shall be
	Control  pg.HotStandby            // of pg_control here; zero without data
	Running  pg.HotStandby            // here; zero while nothing runs
	Upstream pg.HotStandby            // standby: what the primary runs with; zero if it doesn't say
	Standbys map[string]pg.HotStandby // primary: what each other data node that is heard runs with
}

// Held is a setting whose wanted value may not stand in the file yet.
type Held struct {
	Name    string
	Because string
}

// Decide returns the values for the file, zero when nothing says any, and what is held back.
func (o Ordering) Decide() (pg.HotStandby, []Held) {
	var file pg.HotStandby
	var held []Held
	for n, name := range pg.HotStandbyNames() {
		wanted, err := strconv.Atoi(o.Wanted[name])
		set := err == nil
		if o.Primary {
			present := o.Control[n]
			if o.Running.Known() {
				present = o.Running[n]
			}
			low := o.lower(n, wanted)
			switch {
			case !set:
				file[n] = present
			case wanted > present && low != "" && (o.Running.Known() || o.Control.Known()):
				file[n] = present
				held = append(held, Held{name, fmt.Sprintf("%s stays %d here until %s runs with %d", name, present, low, wanted)})
			default:
				file[n] = wanted
			}
			continue
		}
		least := max(o.Control[n], o.Upstream[n])
		file[n] = max(wanted, least)
		if set && least > wanted {
			held = append(held, Held{name, fmt.Sprintf("%s stays %d here until the primary runs with %d", name, least, wanted)})
		}
	}
	return file, held
}

// lower names the first standby that runs with less of setting n, empty if there is none. One that doesn't say what it
// runs with is not running, and when it starts it takes the higher of what is wanted and what it finds.
func (o Ordering) lower(n, wanted int) string {
	for _, name := range slices.Sorted(maps.Keys(o.Standbys)) {
		if s := o.Standbys[name]; s.Known() && s[n] < wanted {
			return name
		}
	}
	return ""
}

// ToReplay returns the values for the file of a start that replays log without writing: where wanted, or present if that is known,
// has less than control, Postgres would end at once. Ordering can't see to it, since it doesn't know how a node that is primary, or
// appointed, will be started: a primary that opens its own log may lower what one that only reads it may not. False: present will do.
func ToReplay(present, control pg.HotStandby, wanted map[string]string) (pg.HotStandby, bool) {
	file, raised := present, false
	for n, name := range pg.HotStandbyNames() {
		number, err := strconv.Atoi(wanted[name])
		has, set := present[n], err == nil
		if !present.Known() {
			has = number
		}
		switch known := present.Known() && (set || present[n] > 0); {
		case has >= control[n]:
			file[n] = has
		case known || set:
			file[n], raised = control[n], true
		default: // what the directory's own file says, or the default, which is too little for a log of another node's settings
			file[n] = control[n]
			raised = raised || control[n] > pg.HotStandbyDefaults()[n]
		}
	}
	if !raised {
		return present, false
	}
	return file, true
}

// Outgrown names the first setting of which a running standby has less than the log that it replays; empty: none. Replay
// stands still there until it is restarted.
func Outgrown(running, control pg.HotStandby) string {
	for n, name := range pg.HotStandbyNames() {
		if running.Known() && running[n] < control[n] {
			return name
		}
	}
	return ""
}
