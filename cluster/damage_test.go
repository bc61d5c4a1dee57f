package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"go.etcd.io/bbolt"
)

// flip changes one bit of a file.
func flip(t *testing.T, file string, at int) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	content[at] ^= 0x10
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// flipAfter changes one bit of each byte that follows text in a file.
func flipAfter(t *testing.T, file, text string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(content), text)
	if len(parts) < 2 {
		t.Fatalf("%s has no %q", file, text)
	}
	for n := range parts[1:] {
		b := []byte(parts[n+1])
		b[0] ^= 1
		parts[n+1] = string(b)
	}
	if err := os.WriteFile(file, []byte(strings.Join(parts, text)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func cutShort(t *testing.T, file string, to int64) {
	t.Helper()
	if err := os.Truncate(file, to); err != nil {
		t.Fatal(err)
	}
}

// forgetEntry takes the last entry but one out of the log in dir.
func forgetEntry(t *testing.T, dir string) {
	t.Helper()
	st, err := openStores(dir, hclog.NewNullLogger(), func(r string) { t.Error(r) })
	if err != nil {
		t.Fatal(err)
	}
	last, err := st.log.LastIndex()
	if err != nil {
		t.Fatal(err)
	}
	if err := st.log.DeleteRange(last-1, last-1); err != nil {
		t.Fatal(err)
	}
	if err := st.closer.Close(); err != nil {
		t.Fatal(err)
	}
}

// snapshotIn is the content of the one snapshot in dir.
func snapshotIn(t *testing.T, dir string) string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(dir, "snapshots", "*", "state.bin"))
	if err != nil || len(all) != 1 {
		t.Fatalf("snapshots %v: %v", all, err)
	}
	return all[0]
}

// TestADamagedRaftDirectoryIsNotTakenForAnEmptyOne: a log that lacks an entry or can't be found in its file, and a snapshot
// that is not what was written, keep the node down with a reason. It neither panics nor goes on with less than it knew.
func TestADamagedRaftDirectoryIsNotTakenForAnEmptyOne(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		says   string
	}{
		{"both pages by which the log is found", func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, logFile), 20)
			flip(t, filepath.Join(dir, logFile), os.Getpagesize()+20)
		}, logFile},
		{"the file of the log was cut short", func(t *testing.T, dir string) { cutShort(t, filepath.Join(dir, logFile), 5000) }, logFile},
		{"the newer of them, or the older one", func(t *testing.T, dir string) { flip(t, filepath.Join(dir, logFile), 20) }, "the meta page"},
		{"an entry is missing", forgetEntry, "does not follow entry"},
		{"a bit in an entry", func(t *testing.T, dir string) { flipAfter(t, filepath.Join(dir, logFile), "n1:543") }, "has the checksum"},
		{"the log, but for a snapshot", func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, logFile)); err != nil {
				t.Fatal(err)
			}
		}, ErrRaftLost.Error()},
		{"the log is as a full disk leaves one at its birth", func(t *testing.T, dir string) {
			db, err := bbolt.Open(filepath.Join(dir, "young.db"), 0o600, nil)
			if err := errors.Join(err, db.Close(), os.Rename(filepath.Join(dir, "young.db"), filepath.Join(dir, logFile))); err != nil {
				t.Fatal(err)
			}
			cutShort(t, filepath.Join(dir, logFile), int64(os.Getpagesize()))
		}, ErrRaftLost.Error()},
		{"what is said about the snapshot", func(t *testing.T, dir string) {
			flipAfter(t, filepath.Join(filepath.Dir(snapshotIn(t, dir)), "meta.json"), `"Term":`)
		}, "snapshots"},
		{"the snapshot", func(t *testing.T, dir string) { flip(t, snapshotIn(t, dir), 40) }, "snapshots"},
		{"the snapshot was cut short", func(t *testing.T, dir string) { cutShort(t, snapshotIn(t, dir), 40) }, "snapshots"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPeerNodes(t, 1)
				n := p.open("n1")
				stop := p.run(n)
				waitFor(t, "a primary", func() bool { return n.State().Epoch == 1 })
				if err := n.raft.Load().Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
				for range 3 { // entries after it
					if err := n.raft.Load().Barrier(time.Second).Error(); err != nil {
						t.Fatal(err)
					}
				}
				before := n.State()
				p.mustStop(stop)
				c.damage(t, filepath.Join(p.dir, "n1", raftDir))
				n = p.open("n1")
				err := n.Run(t.Context())
				for _, says := range []string{c.says, filepath.Join(p.dir, "n1", raftDir), "join the node as a new member"} {
					if err == nil || !strings.Contains(err.Error(), says) {
						t.Errorf("it runs, or does not say %q: %v", says, err)
					}
				}
				if now := n.State(); now.Rev != before.Rev || now.Epoch != 1 {
					t.Errorf("its state was of revision %d and is of %d, epoch %d", before.Rev, now.Rev, now.Epoch)
				}
				time.Sleep(gossipLinger)
			})
		})
	}
}
