//go:build !without_wait

package failover

// waits: an appointment waits for what is left of the last vouches. A negative control builds without (docs/decisions/0017).
const waits = true
