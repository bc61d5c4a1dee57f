package node

import (
	"context"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// TestACopyThatWaitsToBeAskedForIsNotTheAnswer: while a data directory is gone, a copy that was begun before only waits to be asked
// for. Whoever asks has an answer when it is gone on with.
func TestACopyThatWaitsToBeAskedForIsNotTheAnswer(t *testing.T) {
	req := &restartRequest{ctx: context.Background(), reinit: true, done: make(chan restartOutcome, 1)}
	a := &agent{Node: &Node{log: hclog.NewNullLogger()}, restart: restarting{req: req, since: guard.Now(), epoch: 3}}
	a.have = pgctl.Status{Run: pg.RunAbsent, Dir: pgctl.Dir{Empty: true, Gone: "gone"}, Clone: &pgctl.CloneState{}}
	if !a.reinitStep(fsm.State{Epoch: 3}) {
		t.Error("the directory is not to be replaced any more")
	}
	select {
	case out := <-req.done:
		t.Fatalf("answered before anything was done: %+v", out)
	default:
	}
	a.have.Dir.Gone, a.have.Clone.Running = "", true
	if a.reinitStep(fsm.State{Epoch: 3}) {
		t.Error("it is to be replaced once more")
	}
	if out := <-req.done; !out.restarted || out.err != nil {
		t.Errorf("%+v", out)
	}
}

// TestWhoAskedForACopyOfWhatIsBackIsTold: what spoke against a copy was not weighed while there was nothing to lose.
func TestWhoAskedForACopyOfWhatIsBackIsTold(t *testing.T) {
	req := &restartRequest{ctx: context.Background(), reinit: true, done: make(chan restartOutcome, 1)}
	a := &agent{Node: &Node{log: hclog.NewNullLogger()}, restart: restarting{req: req, since: guard.Now(), epoch: 3, gone: true}}
	a.have = pgctl.Status{Run: pg.RunStopped}
	if a.reinitStep(fsm.State{Epoch: 3}) {
		t.Fatal("it is to be replaced")
	}
	if out := <-req.done; out.restarted || out.err == nil || !strings.Contains(out.err.Error(), "is back") {
		t.Errorf("%+v", out)
	}
}
