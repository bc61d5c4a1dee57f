//go:build without_last_vouch

package lease

// remembersVouch: a voter that was restarted has vouched for nobody.
const remembersVouch = false
