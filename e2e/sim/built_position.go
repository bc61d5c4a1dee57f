//go:build without_position

package sim

// builtWithout: see built.go. A second tag of these does not compile.
const builtWithout = MutPosition
