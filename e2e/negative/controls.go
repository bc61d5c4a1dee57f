package main

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

// control is one mechanism that is left out.
type control struct {
	mechanism string
	tag       string // without_TAG
	catcher   catcher
	// modelled: the simulator has a model of its own in place of the product's part, and the tag leaves it out there too. That
	// the product's part is left out is shown by its test.
	modelled bool
	// trapped: chaos --traps lays a trap for it. Of those that the simulator is named for it is a second catcher.
	trapped bool
	// The product's own test that fails without it, which starts no PostgreSQL unless server.
	pkg, test string
	server    bool
}

// controls is the table; docs/decisions/0017 has the reasons.
func controls() []control {
	return []control{
		{mechanism: "durable seal", tag: "durable_seal", catcher: simulator, modelled: true, pkg: "./cluster/beat", test: "TestVoterFile"},
		{mechanism: "last vouch on restart", tag: "last_vouch", catcher: simulator, pkg: "./cluster/lease", test: "TestStories"},
		{mechanism: "wait", tag: "wait", catcher: simulator, pkg: "./failover", test: "TestStories"},
		{mechanism: "detach", tag: "detach", catcher: simulator, modelled: true, trapped: true, pkg: "./pgctl",
			test: "TestDetachWhileReplayIsPaused", server: true},
		{mechanism: "position by end of WAL", tag: "position", catcher: simulator, modelled: true, trapped: true, pkg: "./pgctl",
			test: "TestDetachWhileReplayIsPaused", server: true},
		{mechanism: "order of sync changes", tag: "sync_order", catcher: simulator, pkg: "./fsm",
			test: "TestNoOrderOfStepsLosesACommit"},
		{mechanism: "Rev compare-and-set", tag: "rev", catcher: simulator, pkg: "./fsm", test: "TestRevAndVersion"},
		{mechanism: "durable floor of applied state", tag: "floor", catcher: simulator, modelled: true, pkg: "./cluster",
			test: "TestShownStateNeverGoesBack"},
		{mechanism: "no-phantom gate", tag: "gate", catcher: simulator, pkg: "./pgctl", test: "TestNext"},
		{mechanism: "kill of children", tag: "kill", catcher: traps, modelled: true, trapped: true, pkg: "./pgctl/guard",
			test: "TestOrphansAreKilledBeforeEmpty"},
		{mechanism: "standby.signal", tag: "standby_signal", catcher: traps, trapped: true, pkg: "./pgctl",
			test: "TestFirstPrimaryAndClone", server: true},
		{mechanism: "suspend-aware clock", tag: "suspend_clock", catcher: simulator, modelled: true, pkg: "./pgctl/guard",
			test: "TestDeadlinesCountSuspends"},
	}
}
