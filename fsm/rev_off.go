//go:build without_rev

package fsm

// checksRev: a command that names a revision applies whichever that is.
const checksRev = false
