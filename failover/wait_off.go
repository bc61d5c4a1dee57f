//go:build without_wait

package failover

// waits: a majority of seals is enough.
const waits = false
