package cluster

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
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
			d := deadlineStore{LogStore: slow, StableStore: slow, limit: writeLimit, exit: func(string) { exits <- time.Since(began) }}
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
