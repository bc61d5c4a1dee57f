//go:build without_detach

package sim

// builtWithout: see built.go. A second tag of these does not compile.
const builtWithout = MutDetach
