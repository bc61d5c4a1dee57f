package raftstore

import (
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapshotIn makes a snapshot with content in a directory of its own.
func snapshotIn(t *testing.T, content string) (s Snapshots, dir, id string) {
	t.Helper()
	root := t.TempDir()
	s, err := OpenSnapshots(root, 2, hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	voters := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a.raft"}, {ID: "b", Address: "b.raft", Suffrage: raft.Nonvoter}}}
	_, trans := raft.NewInmemTransport("")
	sink, err := s.Create(1, 1234, 56, voters, 789, trans)
	if err != nil {
		t.Fatal(err)
	}
	_, errWrite := io.WriteString(sink, content)
	if err := errors.Join(errWrite, sink.Close()); err != nil {
		t.Fatal(err)
	}
	return s, filepath.Join(root, "snapshots", sink.ID()), sink.ID()
}

func readSnapshot(s Snapshots, id string) (raft.SnapshotMeta, string, error) {
	m, content, err := s.Open(id)
	if err != nil {
		return raft.SnapshotMeta{}, "", err
	}
	all, err := io.ReadAll(content)
	m.Peers = nil // of a form that nobody reads any more
	return *m, string(all), errors.Join(err, content.Close())
}

// TestASnapshotIsGivenBack, with its size as Raft sends it.
func TestASnapshotIsGivenBack(t *testing.T) {
	for _, text := range []string{"", "what there is"} {
		s, _, id := snapshotIn(t, text)
		m, content, err := readSnapshot(s, id)
		if err != nil || content != text || m.Size != int64(len(text)) || m.Index != 1234 || m.Term != 56 || m.ConfigurationIndex != 789 ||
			len(m.Configuration.Servers) != 2 {
			t.Errorf("%q: %+v, %q, %v", text, m, content, err)
		}
	}
}

// TestAFlippedBitOfASnapshotIsRefusedOrHarmless, in its content and in what is said about it.
func TestAFlippedBitOfASnapshotIsRefusedOrHarmless(t *testing.T) {
	s, dir, id := snapshotIn(t, "what there is")
	m, content, err := readSnapshot(s, id)
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"meta.json", "state.bin"} {
		file := filepath.Join(dir, name)
		whole, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		refused := 0
		for at := range whole {
			for range 2 {
				damaged := slices.Clone(whole)
				damaged[at] ^= 1 << random.IntN(8)
				if err := os.WriteFile(file, damaged, 0o600); err != nil {
					t.Fatal(err)
				}
				is, text, err := readSnapshot(s, id)
				if err != nil {
					refused++
				} else if !reflect.DeepEqual(is, m) || text != content {
					t.Errorf("%s, byte %d from %q to %q: %+v, %q", name, at, whole[at], damaged[at], is, text)
				}
			}
		}
		t.Logf("%s: %d of %d refused", name, refused, 2*len(whole))
		if refused == 0 {
			t.Errorf("%s: nothing was refused, so nothing was tried", name)
		}
		if err := os.WriteFile(file, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestASnapshotOfRaftsOwnStoreIsRefused: nothing vouches for what is said about it.
func TestASnapshotOfRaftsOwnStoreIsRefused(t *testing.T) {
	s, _, _ := snapshotIn(t, "")
	_, trans := raft.NewInmemTransport("")
	sink, err := s.SnapshotStore.Create(1, 2000, 60, raft.Configuration{}, 1, trans)
	if err != nil {
		t.Fatal(err)
	}
	_, errWrite := io.WriteString(sink, "a state without a checksum before it")
	if err := errors.Join(errWrite, sink.Close()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Open(sink.ID()); !errors.Is(err, ErrDamaged) {
		t.Errorf("%v", err)
	}
}
