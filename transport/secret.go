package transport

import (
	"bytes"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// SecretSize is the length of a cluster secret in bytes.
const SecretSize = 32

// ErrBadSecret is in every error about the form of a cluster secret.
var ErrBadSecret = errors.New("bad cluster.secret")

// Secret is the cluster secret, from which every key of the cluster comes. It
// never shows itself in logs or errors; Hex is the one way out.
type Secret struct{ raw [SecretSize]byte }

// NewSecret takes exactly 32 bytes, not all zero.
func NewSecret(raw []byte) (Secret, error) {
	var s Secret
	if len(raw) != SecretSize {
		return s, fmt.Errorf("%w: it has %d bytes, it must have %d; make one with: openssl rand -hex %d",
			ErrBadSecret, len(raw), SecretSize, SecretSize)
	}
	copy(s.raw[:], raw)
	if s.isZero() {
		return s, fmt.Errorf("%w: all its bytes are zero; make one with: openssl rand -hex %d", ErrBadSecret, SecretSize)
	}
	return s, nil
}

// ParseSecret reads what a secret file or variable holds: 32 bytes as 64 hex digits
// or as base64 (44 characters; URL alphabet and missing padding are fine), with
// white space around. Errors do not repeat the content.
func ParseSecret(file []byte) (Secret, error) {
	text := string(bytes.TrimSpace(file))
	if text == "" {
		return Secret{}, fmt.Errorf("%w: it is empty; make one with: openssl rand -hex %d", ErrBadSecret, SecretSize)
	}
	if raw, err := hex.DecodeString(text); err == nil {
		return NewSecret(raw)
	}
	plain := strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	if raw, err := base64.RawStdEncoding.Strict().DecodeString(plain); err == nil {
		return NewSecret(raw)
	}
	return Secret{}, fmt.Errorf("%w: its %d characters are neither hex nor base64; it must be one line of %d hex digits; make one with: openssl rand -hex %d",
		ErrBadSecret, len(text), 2*SecretSize, SecretSize)
}

// maxSecrets is one more than a rotation needs.
const maxSecrets = 3

// ParseSecrets reads a secret file with one secret per line, as ParseSecret has it.
// The first is the one that this node uses; the others are accepted from others.
func ParseSecrets(file []byte) ([]Secret, error) {
	lines := bytes.Fields(file)
	if len(lines) > maxSecrets {
		return nil, fmt.Errorf("%w: the file has %d secrets, at most %d are accepted at a time", ErrBadSecret, len(lines), maxSecrets)
	}
	if len(lines) == 0 {
		lines = [][]byte{nil}
	}
	var secrets []Secret
	for i, line := range lines {
		s, err := ParseSecret(line)
		if err != nil {
			return nil, fmt.Errorf("secret %d: %w", i+1, err)
		}
		if slices.Contains(secrets, s) {
			return nil, fmt.Errorf("%w: secret %d is there twice", ErrBadSecret, i+1)
		}
		secrets = append(secrets, s)
	}
	return secrets, nil
}

// GenerateSecret makes a new random secret.
func GenerateSecret() Secret {
	var s Secret
	_, _ = rand.Read(s.raw[:]) // crypto/rand never fails: it ends the process instead
	return s
}

// Hex is the secret as a secret file holds it.
func (s Secret) Hex() string { return hex.EncodeToString(s.raw[:]) }

// Format keeps the secret out of every fmt verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "(secret)") }

func (s Secret) isZero() bool { return s.raw == [SecretSize]byte{} }

// DeriveKey gives 32 bytes that only holders of the secret can compute and that
// say nothing about it: HKDF-SHA256(secret, label). Each use has its own label,
// "quorate/<use>/<version>".
func DeriveKey(s Secret, label string) []byte {
	key, err := hkdf.Key(sha256.New, s.raw[:], nil, label, sha256.Size)
	if err != nil {
		// Only a length above 255 hashes or a FIPS-only run with a short secret
		// fails, and both sizes are constants here.
		panic(fmt.Sprintf("derive %s: %v", label, err))
	}
	return key
}
