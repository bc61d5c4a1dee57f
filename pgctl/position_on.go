//go:build !without_position

package pgctl

// readsLog: the position is the end of the log on disk. A negative control builds without (docs/decisions/0017).
const readsLog = true
