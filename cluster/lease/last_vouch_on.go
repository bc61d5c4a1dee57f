//go:build !without_last_vouch

package lease

// remembersVouch: a voter that starts counts as having vouched a moment ago. A negative control builds without (docs/decisions/0017).
const remembersVouch = true
