package transport

import (
	"crypto/sha256"
	"encoding/hex"
)

// Fingerprint names the CA that a cluster's secret makes: equal secrets and scopes give equal ones, and it tells nothing else.
func Fingerprint(scope string, s Secret) (string, error) {
	ca, err := newAuthority(scope, s)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(ca.cert.Raw)
	return hex.EncodeToString(sum[:16]), nil
}
