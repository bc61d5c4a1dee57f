//go:build without_standby_signal

package pgctl

// restoresSignal: it is not, so any start of an old primary's directory opens for writing.
const restoresSignal = false
