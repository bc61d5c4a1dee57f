package api

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// pausedAndLost is a paused cluster whose primary nobody has heard for a minute, seen from n2.
func pausedAndLost(t *testing.T) *fake {
	t.Helper()
	f := three(t, "n2")
	f.state.Paused, f.state.PauseRev = true, 12
	f.hear("n1", func(s *failover.Sighting) { s.Age = time.Minute })
	for _, id := range []fsm.NodeID{"n2", "n3"} {
		f.hear(id, func(s *failover.Sighting) { s.Report.Sightings = []failover.Age{{Node: "n1", MS: 60000}} })
	}
	return f
}

// Who says that the primary is down is believed only when nobody hears it: a primary that one node alone can't reach writes on
// without a lease, and a second one would write beside it.
func TestResumePrimaryIsDown(t *testing.T) {
	heard := func(id fsm.NodeID, age time.Duration, ms int64) func(*fake) {
		return func(f *fake) {
			f.hear(id, func(s *failover.Sighting) { s.Age, s.Report.Sightings = age, []failover.Age{{Node: "n1", MS: ms}} })
		}
	}
	for _, c := range []struct {
		name   string
		change func(*fake)
		says   string // empty: it is believed
	}{
		{"nobody hears it", func(*fake) {}, ""},
		{"n3 heard it just short of long ago", heard("n3", 40*time.Millisecond, 961), ""},
		{"n3 hears it", heard("n3", 40*time.Millisecond, 960), "n1 is heard by n3, though not by this node, so its PostgreSQL may run"},
		{"n3 heard it when it was heard last", heard("n3", 900*time.Millisecond, 200), ""},
		{"n3, a voter no more, hears it", func(f *fake) {
			f.state.Electorate.Voters = []fsm.NodeID{"n1", "n2"}
			heard("n3", 40*time.Millisecond, 40)(f)
		}, "heard by n3"},
		{"this node hears it", func(f *fake) { f.hear("n1", func(s *failover.Sighting) { s.Age = 40 * time.Millisecond }) }, "n1 was heard just now"},
		{"this node hears nobody", heard("n3", time.Minute, 60000), "hears 1 of 3 voters"},
	} {
		f := pausedAndLost(t)
		c.change(f)
		w := post(t, changeServer(f), "/v1/resume", `{"primary_is_down":true}`, nil)
		if c.says == "" {
			if w.Code != http.StatusOK || f.State().Paused || f.State().PauseRev != 0 {
				t.Errorf("%s: %d %s, still paused: %t", c.name, w.Code, w.Body, f.State().Paused)
			}
			continue
		}
		if w.Code != http.StatusConflict || !strings.Contains(w.Body.String(), c.says) || !f.State().Paused {
			t.Errorf("%s: %d %s, paused: %t; want 409 %s", c.name, w.Code, w.Body, f.State().Paused, c.says)
		}
	}
}

// overtaken is a cluster in which another node is made primary just after a look at it.
type overtaken struct{ *fake }

func (o overtaken) Sightings() map[fsm.NodeID]failover.Sighting {
	seen := o.fake.Sightings()
	o.move(func(s *fsm.State) { s.Epoch, s.Primary = s.Epoch+1, "n3" })
	return seen
}

// What was said of one primary does not count for the next.
func TestResumeIsAboutThePrimaryThatWasJudged(t *testing.T) {
	f := pausedAndLost(t)
	w := post(t, changeServer(overtaken{f}), "/v1/resume", `{"primary_is_down":true}`, nil)
	if w.Code != http.StatusConflict || !f.State().Paused || !strings.Contains(w.Body.String(), "n1 was said to be down as the primary of epoch 8") {
		t.Errorf("%d %s, paused: %t", w.Code, w.Body, f.State().Paused)
	}
}

// In a pause the sync rule stands still, so a standby that is stopped for maintenance can hold up every commit. That is said.
func TestStatusSaysForWhomCommitsWaitInAPause(t *testing.T) {
	f := three(t, "n2")
	f.state.Paused = true
	const says = "commits wait for 1 of n2, n3: nothing degrades while paused; quorate resume"
	for _, streaming := range []bool{true, false} {
		if !streaming {
			f.hear("n1", func(s *failover.Sighting) { s.Report.Streaming = nil })
		}
		e, err := f.ExplainHere()
		if err != nil {
			t.Fatal(err)
		}
		if got := statusOf(e, "n2").Problems; slices.Contains(got, says) == streaming {
			t.Errorf("streaming %t: %q", streaming, got)
		}
	}
}
