//go:build without_kill

package guard

// killsChildren: a run ends with its postmaster, whose backends are left alone.
const killsChildren = false
