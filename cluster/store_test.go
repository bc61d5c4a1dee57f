package cluster

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/cluster/raftstore"
)

// slowStore takes its time.
type slowStore struct {
	*raft.InmemStore
	takes time.Duration
}

func (s slowStore) StoreLogs(e []*raft.Log) error {
	time.Sleep(s.takes)
	return s.InmemStore.StoreLogs(e)
}

func (s slowStore) Set(k, v []byte) error {
	time.Sleep(s.takes)
	return s.InmemStore.Set(k, v)
}

func TestAWriteThatHangsEndsTheProcess(t *testing.T) {
	for _, tc := range []struct {
		takes time.Duration
		exits int
	}{{time.Second, 0}, {1900 * time.Millisecond, 0}, {5 * time.Second, 2}} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			exits := make(chan time.Duration, 10)
			slow := slowStore{raft.NewInmemStore(), tc.takes}
			d := watchedStore{LogStore: slow, StableStore: slow, limit: writeLimit, exit: func(string) { exits <- time.Since(began) }}
			if err := errors.Join(d.StoreLogs([]*raft.Log{{Index: 1}}), d.Set([]byte("k"), []byte("v"))); err != nil {
				t.Fatal(err)
			}
			if len(exits) != tc.exits {
				t.Fatalf("writes of %s: asked to exit %d times, want %d", tc.takes, len(exits), tc.exits)
			}
			if tc.exits == 0 {
				return
			}
			if first := <-exits; first != writeLimit {
				t.Errorf("asked to exit after %s, want %s", first, writeLimit)
			}
		})
	}
}

func TestStoresKeepWhatTheyWereGiven(t *testing.T) {
	dir := t.TempDir()
	exit := func(r string) { t.Errorf("exit: %s", r) }
	st, err := openStores(dir, hclog.NewNullLogger(), exit)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.log.StoreLog(&raft.Log{Index: 1, Data: []byte("x")}), st.stable.SetUint64([]byte("term"), 7)); err != nil {
		t.Fatal(err)
	}
	if _, err := openStores(dir, hclog.NewNullLogger(), exit); err == nil {
		t.Error("two processes opened one log")
	}
	if err := st.closer.Close(); err != nil {
		t.Fatal(err)
	}
	st, err = openStores(dir, hclog.NewNullLogger(), exit)
	if err != nil {
		t.Fatal(err)
	}
	defer st.closer.Close()
	var l raft.Log
	term, errTerm := st.stable.GetUint64([]byte("term"))
	if err := errors.Join(st.log.GetLog(1, &l), errTerm); err != nil || string(l.Data) != "x" || term != 7 {
		t.Errorf("read back %q, term %d, %v", l.Data, term, err)
	}
}

// TestWhatIsSaidOfALogThatIsNotOpened: damage and an older form have other remedies, and want of room none but room.
func TestWhatIsSaidOfALogThatIsNotOpened(t *testing.T) {
	for says, cause := range map[string]error{
		"/x from this node's own disk": raftstore.ErrDamaged, "nothing is damaged": raftstore.ErrOlder, "another quorate": raftstore.ErrInUse, "no space": unix.ENOSPC,
	} {
		err := storeError("/x", fmt.Errorf("open: %w", cause))
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), says) || errors.Is(err, ErrRaftDamaged) != (cause == raftstore.ErrDamaged) {
			t.Errorf("want to hear of %q: %v", says, err)
		}
	}
}

// TestALogWithNothingInItIsNoNewOneWhereSomethingWasApplied, be it that its entries were in a snapshot that is gone.
func TestALogWithNothingInItIsNoNewOneWhereSomethingWasApplied(t *testing.T) {
	st, err := openStores(t.TempDir(), hclog.NewNullLogger(), func(r string) { t.Errorf("exit: %s", r) })
	if err != nil {
		t.Fatal(err)
	}
	defer st.closer.Close()
	if err := st.whole(0); err != nil {
		t.Errorf("of a new node: %v", err)
	}
	if err := st.whole(7); !errors.Is(err, ErrRaftDamaged) {
		t.Errorf("of a node that had applied entry 7: %v", err)
	}
	if err := errors.Join(st.log.StoreLog(&raft.Log{Index: 1}), st.log.StoreLog(&raft.Log{Index: 2}), st.whole(2)); err != nil {
		t.Errorf("all that was applied is there: %v", err)
	}
	if err := st.whole(3); !errors.Is(err, ErrRaftDamaged) {
		t.Errorf("the last that was applied is missing: %v", err)
	}
}

// rotten is a store whose disk has begun to give back other things.
type rotten struct{ *raft.InmemStore }

var errRotten = fmt.Errorf("entry 1: %w", raftstore.ErrDamaged)

func (rotten) GetLog(uint64, *raft.Log) error   { return errRotten }
func (rotten) GetUint64([]byte) (uint64, error) { return 0, errRotten }

// TestWhatIsNotWhatWasWrittenEndsTheProcess: the next start finds it too, and says what to do. What was never written ends nothing.
func TestWhatIsNotWhatWasWrittenEndsTheProcess(t *testing.T) {
	var said []string
	bad := rotten{raft.NewInmemStore()}
	d := watchedStore{LogStore: bad, StableStore: bad, limit: writeLimit, exit: func(r string) { said = append(said, r) }}
	if _, err := d.Get([]byte("never")); err == nil || len(said) > 0 {
		t.Fatalf("of a value that was never set: %v, %q", err, said)
	}
	_, errTerm := d.GetUint64([]byte("CurrentTerm"))
	for _, err := range []error{d.GetLog(1, &raft.Log{}), errTerm} {
		if !errors.Is(err, raftstore.ErrDamaged) {
			t.Errorf("%v", err)
		}
	}
	if len(said) != 2 || !strings.Contains(said[0], "not what was written") {
		t.Errorf("it said %q", said)
	}
}

// failing is a store of which every write fails.
type failing struct {
	*raft.InmemStore
	err error
}

func (f failing) StoreLog(*raft.Log) error         { return f.err }
func (f failing) StoreLogs([]*raft.Log) error      { return f.err }
func (f failing) DeleteRange(uint64, uint64) error { return f.err }
func (f failing) Set([]byte, []byte) error         { return f.err }
func (f failing) SetUint64([]byte, uint64) error   { return f.err }

// TestAWriteThatFailsEndsTheProcess, because it may have landed. Where there is no room Raft tries entries again by itself; of a
// term that can't be kept it makes a panic, before which it is said what is full and what to do.
func TestAWriteThatFailsEndsTheProcess(t *testing.T) {
	const full = "make room on the disk of cluster.data_dir"
	for name, c := range map[string]struct {
		err  error
		says string // of the term it says full where this is empty
	}{
		"the disk":        {&os.PathError{Op: "write", Err: unix.EIO}, "nobody knows what of it is on the disk"},
		"the order":       {errors.New("entries are stored after the last one only"), "nobody knows what of it is on the disk"},
		"damage":          {errRotten, errRotten.Error()},
		"no room":         {fmt.Errorf("write: %w", &os.PathError{Op: "write", Err: unix.ENOSPC}), ""},
		"no room to grow": {fmt.Errorf("file resize error: %s", unix.ENOSPC), ""},
		"no room for us":  {&os.PathError{Op: "write", Err: unix.EDQUOT}, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			bad := failing{raft.NewInmemStore(), c.err}
			var said []string
			d := watchedStore{LogStore: bad, StableStore: bad, limit: writeLimit, exit: func(r string) { said = append(said, r) }}
			for use, write := range map[string]func() error{
				"entry":   func() error { return d.StoreLog(&raft.Log{}) },
				"entries": func() error { return d.StoreLogs(nil) },
				"removal": func() error { return d.DeleteRange(1, 2) },
				"vote":    func() error { return d.Set(nil, nil) },
				"term":    func() error { return d.SetUint64(nil, 1) },
			} {
				said = nil
				if err := write(); !errors.Is(err, c.err) {
					t.Errorf("%s, %s: %v", name, use, err)
				}
				says := c.says
				if says == "" && use == "term" {
					says = full
				}
				if ended := len(said) == 1; ended != (says != "") || ended && !(strings.Contains(said[0], says) && strings.Contains(said[0], c.err.Error())) {
					t.Errorf("%s, %s: it said %q", name, use, said)
				}
			}
		})
	}
}

// fullAtElections has no room for any term but the first.
type fullAtElections struct{ *raft.InmemStore }

func (f fullAtElections) SetUint64(k []byte, v uint64) error {
	if v > 1 {
		return &os.PathError{Op: "write", Path: "/var/lib/quorate/raft/log.db", Err: unix.ENOSPC}
	}
	return f.InmemStore.SetUint64(k, v)
}

// TestADiskThatIsFullAtAnElectionIsSaid: of the same error Raft itself makes a panic, which is the last that would be heard.
func TestADiskThatIsFullAtAnElectionIsSaid(t *testing.T) {
	store, said := fullAtElections{raft.NewInmemStore()}, make(chan string, 1)
	d := watchedStore{LogStore: store, StableStore: store, limit: writeLimit, exit: func(reason string) {
		said <- reason
		runtime.Goexit() // Raft's goroutine ends here, as the process does
	}}
	conf := raft.DefaultConfig()
	conf.LocalID, conf.Logger = "a", hclog.NewNullLogger()
	address, trans := raft.NewInmemTransport("")
	snapshots := raft.NewInmemSnapshotStore()
	alone := raft.Configuration{Servers: []raft.Server{{ID: "a", Address: address}}}
	if err := raft.BootstrapCluster(conf, d, d, snapshots, trans, alone); err != nil {
		t.Fatal(err)
	}
	if _, err := raft.NewRaft(conf, &machine{}, d, d, snapshots, trans); err != nil {
		t.Fatal(err)
	}
	reason := <-said
	for _, want := range []string{"/var/lib/quorate/raft/log.db", "no space left on device", "make room"} {
		if !strings.Contains(reason, want) {
			t.Errorf("%q does not say %q", reason, want)
		}
	}
}
