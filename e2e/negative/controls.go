package main

import (
	"strings"

	"github.com/quorate/quorate/lab/judge"
)

// The limits within which a mechanism has to be missed.
const (
	limitSeeds   = 10000
	limitMinutes = 20
)

// catcher is who has to find something.
type catcher string

const (
	simulator catcher = "simulator"
	traps     catcher = "chaos"
)

// invariant is one of the simulator's, as it calls it.
type invariant string

// The invariants that a mechanism can be missed by.
const (
	lease     invariant = "lease"
	oneWriter invariant = "one writer"
	noneLost  invariant = "no commit lost"
	copies    invariant = "copies"
)

// control is one mechanism that is left out.
type control struct {
	mechanism string
	tag       string // without_TAG
	catcher   catcher
	// modelled: the simulator has a model of its own in place of the product's part, and the tag leaves it out there too. That
	// the product's part is left out is shown by its test.
	modelled bool
	// breaks are the invariants of the simulator by which it is to be missed; none: the simulator does not play it. Another
	// one that is violated is no catch: what it shows may be the doing of anything.
	breaks []invariant
	// trap of chaos --traps that is laid for it, "" if there is none, and the check that has to see it sprung. Of those that the
	// simulator is named for it is a second catcher.
	trap string
	sees judge.Check
	// The product's own test that fails without it, which starts no PostgreSQL unless server.
	pkg, test string
	server    bool
}

// controls is the table; docs/decisions/0017 has the reasons. Where one tells of two invariants, it is one thing that is seen at
// two instants: an epoch is given away while the guard lets its old holder serve (lease), and then two serve (one writer).
func controls() []control {
	return []control{
		{mechanism: "durable seal", tag: "durable_seal", catcher: simulator, modelled: true, breaks: only(lease), pkg: "./cluster/beat",
			test: "TestVoterFile"},
		{mechanism: "last vouch on restart", tag: "last_vouch", catcher: simulator, breaks: only(lease), pkg: "./cluster/lease",
			test: "TestStories"},
		{mechanism: "wait", tag: "wait", catcher: simulator, breaks: only(lease), pkg: "./failover", test: "TestStories"},
		{mechanism: "detach", tag: "detach", catcher: simulator, modelled: true, breaks: only(noneLost), trap: "trap: nobody fences",
			sees: judge.Appends, pkg: "./pgctl", test: "TestDetachWhileReplayIsPaused", server: true},
		{mechanism: "position by end of WAL", tag: "position", catcher: simulator, modelled: true, breaks: only(noneLost),
			trap: "trap: one has the newest log", sees: judge.Appends, pkg: "./pgctl", test: "TestDetachWhileReplayIsPaused", server: true},
		{mechanism: "order of sync changes", tag: "sync_order", catcher: simulator, breaks: only(copies), pkg: "./fsm",
			test: "TestNoOrderOfStepsLosesACommit"},
		{mechanism: "Rev compare-and-set", tag: "rev", catcher: simulator, breaks: only(lease), pkg: "./fsm", test: "TestRevAndVersion"},
		{mechanism: "durable floor of applied state", tag: "floor", catcher: simulator, modelled: true, breaks: only(lease),
			pkg: "./cluster", test: "TestShownStateNeverGoesBack"},
		{mechanism: "no-phantom gate", tag: "gate", catcher: simulator, breaks: only(noneLost), pkg: "./pgctl", test: "TestNext"},
		{mechanism: "kill of children", tag: "kill", catcher: traps, modelled: true, breaks: []invariant{lease, oneWriter},
			trap: "trap: busy session", sees: judge.Writers, pkg: "./pgctl/guard", test: "TestOrphansAreKilledBeforeEmpty"},
		{mechanism: "standby.signal", tag: "standby_signal", catcher: traps, trap: "trap: start by hand", sees: judge.Writers,
			pkg: "./pgctl", test: "TestFirstPrimaryAndClone", server: true},
		{mechanism: "suspend-aware clock", tag: "suspend_clock", catcher: simulator, modelled: true,
			breaks: []invariant{lease, oneWriter}, pkg: "./pgctl/guard", test: "TestDeadlinesCountSuspends"},
	}
}

func only(i invariant) []invariant { return []invariant{i} }

// played says that the simulator plays it.
func (c control) played() bool { return len(c.breaks) > 0 }

// names are the invariants as a hunt is told them.
func (c control) names() string {
	var all []string
	for _, i := range c.breaks {
		all = append(all, string(i))
	}
	return strings.Join(all, ",")
}
