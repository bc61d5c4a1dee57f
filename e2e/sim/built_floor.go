//go:build without_floor

package sim

// builtWithout: see built.go. A second tag of these does not compile.
const builtWithout = MutFloor
