package lab

import (
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/lab/judge"
)

// TestWhatIsLookedFor: a search that lacks one of the secrets would find nothing of it, so a member's directory without one is an error.
func TestWhatIsLookedFor(t *testing.T) {
	l, err := create(Options{Nodes: 1, Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(l.dir) })
	n := l.Nodes[0]
	secret, seed := strings.Repeat("0123", 16), strings.Repeat("89ab", 16)
	write := func(name, text string) error { return os.WriteFile(filepath.Join(n.Data(), name), []byte(text), 0o600) }
	if err := errors.Join(os.MkdirAll(n.Data(), 0o700), write(config.SecretName, secret+"\n"), write("identity.bin", "quorate\x01{}")); err != nil {
		t.Fatal(err)
	}
	if _, err := l.secrets(n); err == nil || !strings.Contains(err.Error(), "no password seed") {
		t.Errorf("a member without a seed: %v", err)
	}
	if err := write("identity.bin", "quorate\x01{\"joined\":{\"seed\":\""+seed+"\"}}"); err != nil {
		t.Fatal(err)
	}
	sought, err := l.secrets(n)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(seed)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"the password of the roles": "password=" + l.Password, "cluster.secret": "x" + secret, "the password seed": "x" + seed,
		"the bytes of the password seed": "x" + string(raw),
	} {
		found := judge.NoSecret("log", []byte(text), sought)
		if len(found) == 0 || !strings.Contains(found[0].What, name) {
			t.Errorf("%s: %v", name, found)
		}
	}
}
