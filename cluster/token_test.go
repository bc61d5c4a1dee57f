package cluster

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/transport"
)

func TestTokens(t *testing.T) {
	made, err := NewToken("c1", "demo", []string{"10.0.0.1:7400", "10.0.0.2:7400"}, []transport.Secret{transport.GenerateSecret(), transport.GenerateSecret()})
	if err != nil {
		t.Fatal(err)
	}
	text, err := made.Encode()
	if err != nil {
		t.Fatal(err)
	}
	read, err := ParseToken("  " + text + "\n")
	if err != nil || read.Secret != made.Secret || read.ClusterID != "c1" || !slices.Equal(read.Addrs, made.Addrs) {
		t.Errorf("read %v, %v", read.ClusterID, err)
	}
	bare, err := NewToken("c1", "demo", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := bare.Encode(); err != nil {
		t.Error(err)
	} else if _, err := ParseToken(text); err != nil {
		t.Errorf("without a secret: %v", err)
	}
	other := made
	other.Secret = transport.GenerateSecret().Hex()
	mixed, err := other.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{
		"nothing": "", "cut short": text[:len(text)-9], "another thing": "hello", "no mark": text[9:], "two secrets": mixed, "not base64": tokenMark + "***",
	} {
		_, err := ParseToken(bad)
		if !errors.Is(err, ErrToken) {
			t.Errorf("%s: %v", name, err)
		} else if bad != "" && len(bad) > 20 && strings.Contains(err.Error(), bad[10:20]) {
			t.Errorf("%s: the error repeats the token: %v", name, err)
		}
	}
}
