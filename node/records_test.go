package node

import (
	"errors"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Who looks must not wait for a disk that hangs, and sees nothing that is not on it yet.
func TestRecordsAreReadWhileTheDiskHangs(t *testing.T) {
	promise := fsm.Promise{Node: "1", Rev: 8, Rule: fsm.SyncRule{Members: []fsm.NodeID{"1", "2"}, Copies: 2}}
	type look struct{ served, released, promised bool }
	for _, c := range []struct {
		name  string
		write func(*records) error
		after look
	}{
		{"serving", func(r *records) error { return r.Serve(8) }, look{served: true}},
		{"the release", func(r *records) error { return r.Release(fsm.Release{Epoch: 8, Node: "1"}) }, look{released: true}},
		{"the promise", func(r *records) error { return r.Promise(promise) }, look{promised: true}},
	} {
		for _, outcome := range []error{nil, errors.New("the disk is gone")} {
			r, err := openRecords(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(r.Serve(7), r.Release(fsm.Release{Epoch: 7, Node: "1"})); err != nil {
				t.Fatal(err)
			}
			shown := func() look { return look{r.Served() == 8, r.ReleasedEpoch() == 8, r.Promised(8) != nil} }
			hangs, comesBack := make(chan struct{}), make(chan error)
			r.save = func(string, any) error {
				close(hangs)
				return <-comesBack
			}
			written, looked := make(chan error, 1), make(chan look, 1)
			go func() { written <- c.write(r) }()
			<-hangs
			go func() { looked <- shown() }()
			select {
			case got := <-looked:
				if got != (look{}) {
					t.Errorf("%s is shown before it is on the disk: %+v", c.name, got)
				}
			case <-time.After(10 * time.Second):
				t.Errorf("%s: who looks waits for the disk", c.name)
			}
			comesBack <- outcome
			if err := <-written; !errors.Is(err, outcome) {
				t.Errorf("%s: %v, want %v", c.name, err, outcome)
			}
			want := c.after
			if outcome != nil {
				want = look{}
			}
			if got := shown(); got != want {
				t.Errorf("%s, %v: shown afterwards: %+v, want %+v", c.name, outcome, got, want)
			}
		}
	}
}
