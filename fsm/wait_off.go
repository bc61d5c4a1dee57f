//go:build without_wait

package fsm

// checksWait: a seal counts at once.
const checksWait = false
