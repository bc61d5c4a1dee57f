//go:build without_gate

package pgctl

// gates: every log counts as shared, so clients read whatever is there.
const gates = false
