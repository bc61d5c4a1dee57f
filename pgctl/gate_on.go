//go:build !without_gate

package pgctl

// gates: clients are kept out of what a failover could take back. A negative control builds without (docs/decisions/0017).
const gates = true
