//go:build without_rev

package fsm

// checksRev: a command applies whatever it was decided under.
const checksRev = false
