//go:build !without_kill

package guard

// killsChildren: a run ends with all its processes. A negative control builds without (docs/decisions/0017).
const killsChildren = true
