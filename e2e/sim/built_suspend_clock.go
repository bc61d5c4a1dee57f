//go:build without_suspend_clock

package sim

// builtWithout: see built.go. A second tag of these does not compile.
const builtWithout = MutClock
