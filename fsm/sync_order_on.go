//go:build !without_sync_order

package fsm

// keepsOrder: a change of the sync rule that must be agreed first is told to Postgres after that. A
// negative control builds without (docs/decisions/0017).
const keepsOrder = true
