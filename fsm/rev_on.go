//go:build !without_rev

package fsm

// checksRev: what was decided under another revision is refused. A negative control builds without (docs/decisions/0017).
const checksRev = true
