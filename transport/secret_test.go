package transport

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// testSecret is a fixed secret; n tells several apart.
func testSecret(t testing.TB, n byte) Secret {
	t.Helper()
	s, err := NewSecret(bytes.Repeat([]byte{n}, SecretSize))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseSecret(t *testing.T) {
	raw := []byte("\xfb\xff0123456789abcdef0123456789abcd")
	good := map[string]string{
		"hex":              hex.EncodeToString(raw),
		"hex, line end":    hex.EncodeToString(raw) + "\n",
		"hex, upper case":  strings.ToUpper(hex.EncodeToString(raw)),
		"base64":           base64.StdEncoding.EncodeToString(raw),
		"base64, unpadded": base64.RawStdEncoding.EncodeToString(raw),
		"base64, URL":      " " + base64.URLEncoding.EncodeToString(raw) + "\r\n",
	}
	for name, text := range good {
		s, err := ParseSecret([]byte(text))
		if err != nil || s.Hex() != hex.EncodeToString(raw) {
			t.Errorf("%s: %v, %v", name, s.Hex(), err)
		}
	}
	bad := map[string]string{
		"":                              "it is empty",
		" \n":                           "it is empty",
		"abcd":                          "it has 2 bytes, it must have 32",
		strings.Repeat("ab", 31):        "it has 31 bytes",
		strings.Repeat("00", 32):        "zero",
		"correct horse battery staple!": "neither hex nor base64",
	}
	for text, want := range bad {
		_, err := ParseSecret([]byte(text))
		if !errors.Is(err, ErrBadSecret) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
		if len(text) > 8 && strings.Contains(err.Error(), text) {
			t.Errorf("the error repeats the secret: %v", err)
		}
	}
}

func TestParseSecrets(t *testing.T) {
	one, two := testSecret(t, 1).Hex(), testSecret(t, 2).Hex()
	for text, want := range map[string]int{one: 1, one + "\n": 1, "\n" + one + "\n\n" + two + "\r\n": 2, one + " " + two: 2} {
		got, err := ParseSecrets([]byte(text))
		if err != nil || len(got) != want || got[0].Hex() != one {
			t.Errorf("%q: %d secrets, %v; want %d, the first first", text, len(got), err, want)
		}
	}
	for text, want := range map[string]string{
		" \n":                               "it is empty",
		one + "\nabcd":                      "secret 2: bad cluster.secret: it has 2 bytes",
		one + "\n" + two + "\n" + one:       "secret 3 is there twice",
		strings.Repeat(one+"\n", 4):         "at most 3",
		one + "\n# the old one\n" + two:     "at most 3",
		"correct horse\nbattery staple yes": "at most 3",
	} {
		_, err := ParseSecrets([]byte(text))
		if !errors.Is(err, ErrBadSecret) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestSecretStaysSecret(t *testing.T) {
	s := testSecret(t, 7)
	shown := fmt.Sprintf("%v %+v %#v %s %x %d %v", s, s, s, s, s, s, struct{ S Secret }{s})
	if strings.Contains(shown, "07") || strings.Contains(shown, "7 7") {
		t.Fatalf("fmt shows the secret: %s", shown)
	}
	if a, b := GenerateSecret(), GenerateSecret(); a == b {
		t.Fatal("two generated secrets are equal")
	}
}

// The derivation is part of the wire format: nodes of two releases must agree.
func TestDeriveKeyIsStable(t *testing.T) {
	s := testSecret(t, 1)
	got := hex.EncodeToString(DeriveKey(s, "quorate/admin/1"))
	// Computed with another HKDF implementation.
	if want := "38316a1d2f637138854cc144d16254aec62a6755bd3278778465ea5cd6b3d6e7"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	if bytes.Equal(DeriveKey(s, "a"), DeriveKey(s, "b")) || bytes.Equal(DeriveKey(s, "a"), DeriveKey(testSecret(t, 2), "a")) {
		t.Fatal("label or secret does not matter")
	}
}
