//go:build without_durable_seal

package sim

// builtWithout: see built.go. A second tag of these does not compile.
const builtWithout = MutSeal
