//go:build !without_standby_signal

package pgctl

// restoresSignal: standby.signal is put back beside a running primary. A negative control builds without (docs/decisions/0017).
const restoresSignal = true
