package judge

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Secret is what must not be read anywhere: a password, or the bytes of a key.
type Secret struct {
	Name  string
	Value []byte
}

// leastSecret is how long a secret has to be to be told from chance.
const leastSecret = 8

// NoSecret says that an artefact has none of the secrets in it: not as they are, nor in hexadecimal or base64.
func NoSecret(artefact string, content []byte, secrets []Secret) (found []Violation) {
	lower := bytes.ToLower(content)
	for _, s := range secrets {
		if len(s.Value) < leastSecret {
			found = append(found, Violation{Secrets, fmt.Sprintf("%s is too short to look for", s.Name)})
			continue
		}
		hexed := []byte(hex.EncodeToString(s.Value))
		forms := map[string]bool{
			"as it is":       bytes.Contains(content, s.Value),
			"in hexadecimal": bytes.Contains(lower, hexed),
			// The last characters depend on what follows it; three of four lengths before it would shift it, and are not looked for.
			"in base64": bytes.Contains(content, unpadded(base64.StdEncoding, s.Value)) || bytes.Contains(content, unpadded(base64.URLEncoding, s.Value)),
		}
		for _, form := range slices.Sorted(maps.Keys(forms)) {
			if forms[form] {
				found = append(found, Violation{Secrets, fmt.Sprintf("%s has %s %s", artefact, s.Name, form)})
			}
		}
	}
	return found
}

// unpadded leaves out the padding and the character that is made of less than the last byte.
func unpadded(e *base64.Encoding, value []byte) []byte {
	text := strings.TrimRight(e.EncodeToString(value), "=")
	return []byte(text[:len(value)*8/6])
}
