//go:build !without_floor

package cluster

// beginsWithDisk: a node that starts acts on the state that it had on disk. A negative control builds
// without (docs/decisions/0017).
const beginsWithDisk = true
