package judge

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
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
			"in base64":      slices.ContainsFunc(inBase64(s.Value), func(form []byte) bool { return bytes.Contains(content, form) }),
		}
		for _, form := range slices.Sorted(maps.Keys(forms)) {
			if forms[form] {
				found = append(found, Violation{Secrets, fmt.Sprintf("%s has %s %s", artefact, s.Name, form)})
			}
		}
	}
	return found
}

// inBase64 are the texts of which one is in whatever base64 has the value in it, with how many bytes before it ever. What its first and
// last characters are depends on its neighbours where they share one, and those are cut.
func inBase64(value []byte) (forms [][]byte) {
	for before := range 3 {
		first, end := (before*8+5)/6, (before+len(value))*8/6
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := e.EncodeToString(append(make([]byte, before), value...))
			forms = append(forms, []byte(text[first:end]))
		}
	}
	return forms
}
