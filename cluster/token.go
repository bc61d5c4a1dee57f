package cluster

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/quorate/quorate/transport"
)

// tokenMark begins every token, so that one is recognised in a log or a shell history.
const tokenMark = "quorate1."

// ErrToken says that a text is no token, or not a whole one.
var ErrToken = errors.New("not a join token")

// Token is all that a node needs to join a cluster. Whoever has it can be a member: it holds the cluster's secret.
type Token struct {
	ClusterID   string   `json:"cluster_id"`
	Scope       string   `json:"scope"`
	Addrs       []string `json:"addrs"`
	Fingerprint string   `json:"fingerprint,omitempty"` // of the CA that the secret makes; a token that was cut short has another
	Secret      string   `json:"secret,omitempty"`      // hex; empty in a cluster on loopback that has none
}

// NewToken makes the token of a cluster. Without a secret it is for loopback only.
func NewToken(clusterID, scope string, addrs []string, secrets []transport.Secret) (Token, error) {
	t := Token{ClusterID: clusterID, Scope: scope, Addrs: addrs}
	if len(secrets) == 0 {
		return t, nil
	}
	var err error
	t.Secret = secrets[0].Hex()
	t.Fingerprint, err = transport.Fingerprint(scope, secrets[0])
	return t, err
}

// Encode gives the one line that people copy.
func (t Token) Encode() (string, error) {
	raw, err := json.Marshal(t)
	if err != nil {
		return "", fmt.Errorf("encode token: %w", err)
	}
	return tokenMark + base64.RawURLEncoding.EncodeToString(raw), nil
}

// ParseToken reads what Encode gave. The error never repeats the token.
func ParseToken(text string) (Token, error) {
	var t Token
	body, marked := strings.CutPrefix(strings.TrimSpace(text), tokenMark)
	if !marked {
		return t, fmt.Errorf("%w: it does not begin with %s; get one with: quorate token", ErrToken, tokenMark)
	}
	raw, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return t, fmt.Errorf("%w: it was cut short or changed; get it again with: quorate token", ErrToken)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&t); err != nil || t.ClusterID == "" || t.Scope == "" {
		return Token{}, fmt.Errorf("%w: it was cut short, or made by another release; get it again with: quorate token", ErrToken)
	}
	if t.Secret == "" {
		return t, nil
	}
	secret, err := transport.ParseSecret([]byte(t.Secret))
	if err != nil {
		return Token{}, fmt.Errorf("%w: %w", ErrToken, err)
	}
	if want, err := transport.Fingerprint(t.Scope, secret); err != nil || want != t.Fingerprint {
		return Token{}, fmt.Errorf("%w: its secret and its fingerprint do not belong together", ErrToken)
	}
	return t, nil
}
