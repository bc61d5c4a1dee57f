package cluster

import (
	"path/filepath"
	"testing"

	"github.com/quorate/quorate/transport"
)

// Every founding member has the same seed, and it is of that founding alone.
func TestMembersShareThePasswordSeed(t *testing.T) {
	if _, ok, err := PasswordSeed(t.TempDir()); ok || err != nil {
		t.Errorf("an empty directory has a seed: %v, %v", ok, err)
	}
	seen := map[transport.Secret]int{}
	for range 2 {
		three(t, func(t *testing.T, p *peerNodes, leader, _ *Cluster) {
			if f := leader.hello().Founding; f == nil || f.Seed != "" {
				t.Errorf("what strangers are told of the founding: %+v", f)
			}
			for _, name := range []string{"n1", "n2", "n3"} {
				seed, ok, err := PasswordSeed(filepath.Join(p.dir, name))
				if !ok || err != nil {
					t.Errorf("%s has no seed: %v", name, err)
				}
				seen[seed]++
			}
		})
	}
	if len(seen) != 2 {
		t.Errorf("two clusters have %d seeds", len(seen))
	}
	for _, n := range seen {
		if n != 3 {
			t.Errorf("a seed was found on %d nodes, want 3", n)
		}
	}
}
