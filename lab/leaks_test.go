package lab

import (
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/lab/judge"
)

// TestWhatIsLookedFor: a search that lacks one of the secrets finds nothing of it, so a member's directory without one is an error.
func TestWhatIsLookedFor(t *testing.T) {
	l, err := create(Options{Nodes: 1, Out: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(l.dir) })
	n := l.Nodes[0]
	secret, seed, streams := strings.Repeat("0123", 16), strings.Repeat("89ab", 16), strings.Repeat("cdef", 8)
	passfile := filepath.Join("postgres", "postgres", "pgpass")
	if err := os.MkdirAll(filepath.Join(n.Data(), filepath.Dir(passfile)), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ name, text, lacks string }{
		{config.SecretName, secret + "\n", "read the secret"},
		{"identity.bin", "quorate\x01{}", "read the password seed"},
		{"identity.bin", "quorate\x01{\"joined\":{\"seed\":\"" + seed + "\"}}", "has no password seed"},
		{passfile, "", "read the replication password"},
		{passfile, "*:*:*:replicator:" + streams + "\n", "has no replication password"},
	} {
		if _, err := l.secrets(n); err == nil || !strings.Contains(err.Error(), step.lacks) {
			t.Errorf("want %q: %v", step.lacks, err)
		}
		if err := os.WriteFile(filepath.Join(n.Data(), step.name), []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sought, err := l.secrets(n)
	if err != nil {
		t.Fatal(err)
	}
	raw := func(text string) string {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, text := range map[string]string{
		"the password of postgres and the lab's roles": "password=" + l.Password, "the replication password": "primary_conninfo password=" + streams,
		"cluster.secret": secret, "the bytes of cluster.secret": raw(secret), "the password seed": seed, "the bytes of the password seed": raw(seed),
	} {
		found := judge.NoSecret("log", []byte("x"+text), sought)
		if !slices.ContainsFunc(found, func(v judge.Violation) bool { return strings.HasPrefix(v.What, "log has "+name+" as it is") }) {
			t.Errorf("%s: %v", name, found)
		}
	}
}
