//go:build without_position

package pgctl

// readsLog: the position is what SQL said last.
const readsLog = false
