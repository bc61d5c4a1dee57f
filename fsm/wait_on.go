//go:build !without_wait

package fsm

// checksWait: a seal counts once what was left of the last vouch is over. A negative control builds without (docs/decisions/0017).
const checksWait = true
