//go:build without_detach

package pgctl

// endsReceiver: the settings are changed and the position is told; a walreceiver that lags goes on to acknowledge.
const endsReceiver = false
