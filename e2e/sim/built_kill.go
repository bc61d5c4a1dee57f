//go:build without_kill

package sim

// builtWithout: see built.go. A second tag of these does not compile.
const builtWithout = MutKill
