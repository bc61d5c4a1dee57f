//go:build without_sync_order

package fsm

// keepsOrder: Postgres is told of every change at once, and it may be agreed later or never.
const keepsOrder = false
