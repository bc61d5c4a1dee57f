//go:build without_floor

package cluster

// beginsWithDisk: a node that starts acts on nothing, and then on whatever its log replays.
const beginsWithDisk = false
