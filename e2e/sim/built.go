//go:build !(without_durable_seal || without_detach || without_position || without_floor || without_kill || without_suspend_clock)

package sim

// builtWithout is the mechanism without which this program was built, of those that the world has a model of its own for. What
// is called here of the product itself follows the tag anyhow (docs/decisions/0017).
const builtWithout = MutNone
