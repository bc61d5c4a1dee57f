package judge

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/quorate/quorate/lab/history"
)

// Linearizable says that every register behaved as if each attempt had happened at one instant between its beginning and its
// end. No two attempts may write the same value. An attempt that got no answer may have happened at any time since, or never.
// Reads of nodes that nobody could fence are left out. A register that is not decided within limit is no violation here: undecided
// counts those among the registers that there are, for Decided.
func Linearizable(accesses []history.Access, unfenced Unfenced, limit time.Duration) (found []Violation, all, undecided int) {
	byKey := map[int64][]history.Access{}
	for _, a := range accesses {
		stale := a.Kind == history.Get && unfenced.at(a.Node, a.Start, a.End)
		if a.Outcome == history.OK && !stale || a.Outcome == history.Unknown && a.Kind != history.Get {
			byKey[a.Key] = append(byKey[a.Key], a)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(byKey)) {
		var ops []porcupine.Operation
		for _, a := range settle(byKey[key]) {
			ops = append(ops, porcupine.Operation{ClientId: a.Client, Input: a, Call: a.Start, Output: a, Return: a.End})
		}
		switch porcupine.CheckOperationsTimeout(register(), ops, limit) {
		case porcupine.Illegal:
			found = append(found, Violation{Registers, fmt.Sprintf("register %d: its %d attempts fit no order%s", key, len(byKey[key]), stray(byKey[key]))})
		case porcupine.Unknown:
			undecided++
		}
	}
	return found, len(byKey), undecided
}

// Decided says that of all registers no more than one in twenty was not decided, or a single one: nothing is known of those.
func Decided(all, undecided int) []Violation {
	if undecided <= max(1, all/20) {
		return nil
	}
	return []Violation{{Registers, fmt.Sprintf("%d of %d registers were not decided in time: nobody knows whether their attempts fit an order", undecided, all)}}
}

// settle decides about attempts on one register that got no answer, since each that stays open doubles the orders to try.
//
// One whose value somebody saw did happen, and before whoever saw it first had his answer. One whose value nobody saw can have
// changed no answer but that of a failed swap, for which it may have been in the way: it is left out, and so are the failed swaps
// that ended after it began. Leaving out an attempt that saw or changed nothing never makes a good history bad.
func settle(all []history.Access) (settled []history.Access) {
	seen := map[int64]int64{} // when somebody who saw the value had his answer, the first of all
	see := func(value, at int64) bool {
		if first, ok := seen[value]; ok && first <= at {
			return false
		}
		seen[value] = at
		return true
	}
	for again := true; again; {
		again = false
		for _, a := range all {
			at, happened := a.End, a.Outcome == history.OK
			if a.Outcome == history.Unknown {
				at, happened = seen[a.New], seen[a.New] != 0
			}
			switch {
			case a.Kind == history.Get:
				again = see(a.Got, at) || again
			case a.Kind == history.Swap && happened && (a.Swapped || a.Outcome == history.Unknown):
				again = see(a.Old, at) || again
			}
		}
	}
	began := int64(math.MaxInt64) // the first that nobody saw
	for _, a := range all {
		if a.Outcome == history.Unknown && seen[a.New] == 0 {
			began = min(began, a.Start)
		}
	}
	for _, a := range all {
		switch {
		case a.Outcome == history.Unknown && seen[a.New] == 0, a.Kind == history.Swap && a.Outcome == history.OK && !a.Swapped && a.End > began:
			continue
		case a.Outcome == history.Unknown:
			// Who saw it before it began read what nobody had written: that is found by leaving the beginning where it is.
			a.End, a.Swapped = max(a.Start, seen[a.New]), true
		}
		settled = append(settled, a)
	}
	return settled
}

// register is the sequential behaviour of one register.
func register() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(state, input, _ any) (bool, any) {
			is, a := state.(int64), input.(history.Access)
			switch a.Kind {
			case history.Get:
				return a.Got == is, is
			case history.Put:
				return true, a.New
			}
			after := is
			if is == a.Old {
				after = a.New
			}
			return a.Swapped == (is == a.Old), after
		},
	}
}

// stray names the first read of something that nobody can have written by then, if that is what is wrong.
func stray(all []history.Access) string {
	written := map[int64]int64{0: math.MinInt64} // since when, by value
	for _, a := range all {
		if a.Kind != history.Get {
			written[a.New] = a.Start
		}
	}
	for _, a := range all {
		if since, known := written[a.Got]; a.Kind == history.Get && (!known || since > a.End) {
			return fmt.Sprintf("; %s read %d, which nobody had written", a.Node, a.Got)
		}
	}
	return ""
}
