//go:build !without_detach

package pgctl

// endsReceiver: whoever leaves a primary ends its walreceiver and sees it gone before it tells its position. A
// negative control builds without (docs/decisions/0017).
const endsReceiver = true
