package sim

import (
	"slices"
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// The model of PostgreSQL is held against the real one: each finding of the reference (K3 to K9) is a script, played once on the
// model and once on two real servers, and what can be seen from outside is compared line by line. The lines that both shall give
// stand here too, so that the two can't be wrong together.

// servers is a primary and a standby that streams from it, named n2, the model's or real ones. Every observation is in words.
type servers interface {
	// rule sets how many standbys a commit waits for, 0 or 1, in force when it returns.
	rule(copies int)
	// commit asks for one: "acknowledged" or "waits".
	commit() string
	// outcome of the newest commit, once it is decided, by what a client may believe (DETAILS 22): "acknowledged" or "unknown".
	outcome() string
	// readable says whether clients of the primary see the newest commit.
	readable() string
	// cancel cancels the newest commit, which waits.
	cancel()

	// lag stops replay on the standby. leave takes its upstream away by a reload. receiver says whether a walreceiver "runs" there
	// some time after; endReceiver ends it by a signal.
	lag()
	leave()
	receiver() string
	endReceiver()
	// lose ends the standby at once; alone starts it anew with nobody to follow and a replay that is late.
	lose()
	alone()
	// received, replayed and log compare what the standby says, or its disk has, with the last acknowledged commit.
	received() string
	replayed() string
	log() string

	// end ends the primary, "fast" or "immediate"; start starts it with or without standby.signal and says whether it "reads" or
	// "writes".
	end(mode string)
	start(signal bool) string
	// killPostmaster kills only that one, while a session is busy; goesOn says whether that session's commits go on. killRest ends it.
	killPostmaster()
	goesOn() string
	killRest()
	// wedge stops a backend, unwedge lets it go on. ask has the postmaster end, without waiting. crash kills another backend.
	wedge()
	unwedge()
	ask(mode string)
	crash()
	// there says after a while whether the primary is "there" still; gone waits until it has ended.
	there() string
	gone() string

	// raise restarts the primary with more connections than the standby has; still says whether replay there "stands still".
	// restarted starts the standby anew with less or as much and says whether it "ends" or "reads".
	raise()
	still() string
	restarted(enough bool) string
}

// finding is a script with what it shows.
type finding struct {
	name string
	play func(s servers, say func(...string))
	want string
}

func findings() []finding {
	return []finding{
		{"K3 caught up a reload detaches", func(s servers, say func(...string)) {
			s.rule(1)
			say("commit", s.commit())
			s.leave()
			say("receiver", s.receiver())
			say("commit", s.commit())
		}, "commit acknowledged; receiver none; commit waits"},
		{"K3 a lagging walreceiver outlives a reload", func(s servers, say func(...string)) {
			s.rule(1)
			s.lag()
			say("commit", s.commit())
			s.leave()
			say("receiver", s.receiver())
			say("commit", s.commit())
			s.endReceiver()
			say("receiver", s.receiver())
			say("commit", s.commit())
		}, "commit acknowledged; receiver runs; commit acknowledged; receiver none; commit waits"},
		{"K4 a restart forgets what was received", func(s servers, say func(...string)) {
			s.rule(1)
			s.lag()
			say("commit", s.commit())
			s.lose()
			s.alone()
			say("received", s.received())
			say("replayed", s.replayed())
			say("log", s.log())
		}, "commit acknowledged; received unknown; replayed less; log all"},
		{"K5 relaxing the rule acknowledges who waits", func(s servers, say func(...string)) {
			s.rule(1)
			s.lose()
			say("commit", s.commit())
			s.rule(0)
			say("outcome", s.outcome())
		}, "commit waits; outcome acknowledged"},
		{"K6 a cancel lets through and promises nothing", func(s servers, say func(...string)) {
			s.rule(1)
			s.lose()
			say("commit", s.commit())
			s.cancel()
			say("outcome", s.outcome())
			say("readable", s.readable())
		}, "commit waits; outcome unknown; readable yes"},
		{"K6 a crash shows what was not acknowledged", func(s servers, say func(...string)) {
			s.rule(1)
			s.lose()
			say("commit", s.commit())
			s.end("immediate")
			say("outcome", s.outcome())
			say("start", s.start(false))
			say("readable", s.readable())
		}, "commit waits; outcome unknown; start writes; readable yes"},
		{"K6 so does a fast stop", func(s servers, say func(...string)) {
			s.rule(1)
			s.lose()
			say("commit", s.commit())
			s.end("fast")
			say("outcome", s.outcome())
			say("start", s.start(false))
			say("readable", s.readable())
		}, "commit waits; outcome unknown; start writes; readable yes"},
		{"K7 a busy session outlives its postmaster", func(s servers, say func(...string)) {
			s.killPostmaster()
			say("commits", s.goesOn())
			s.killRest()
			say("start", s.start(false))
		}, "commits go on; start writes"},
		{"K8 a stopped backend keeps a fast stop from ending", func(s servers, say func(...string)) {
			s.wedge()
			s.ask("fast")
			say("primary", s.there())
			s.unwedge()
			say("primary", s.gone())
		}, "primary there; primary gone"},
		{"K8 a crash waits for a stopped backend, for a while", func(s servers, say func(...string)) {
			s.wedge()
			s.crash()
			say("primary", s.there())
			say("primary", s.gone())
		}, "primary there; primary gone"},
		{"K9 the signal keeps a server read-only", func(s servers, say func(...string)) {
			say("commit", s.commit())
			s.end("immediate")
			say("start", s.start(true))
			say("readable", s.readable())
			s.end("fast")
			say("start", s.start(true))
		}, "commit acknowledged; start reads; readable yes; start reads"},
		{"settings that the log has outgrown", func(s servers, say func(...string)) {
			s.rule(1)
			s.raise()
			say("commit", s.commit())
			say("replay", s.still())
			say("start", s.restarted(false))
			say("start", s.restarted(true))
			say("commit", s.commit())
		}, "commit acknowledged; replay stands still; start ends; start reads; commit acknowledged"},
	}
}

// played is what a script shows, in one line.
func (f finding) played(s servers) string {
	var out []string
	f.play(s, func(words ...string) { out = append(out, strings.Join(words, " ")) })
	return strings.Join(out, "; ")
}

func TestTheModelShowsTheFindings(t *testing.T) {
	for _, f := range findings() {
		t.Run(f.name, func(t *testing.T) {
			if got := f.played(newModelPair(t)); got != f.want {
				t.Errorf("the model shows\n%s\nwant\n%s", got, f.want)
			}
		})
	}
}

// TestPostgresShowsTheFindings plays the same on real servers.
func TestPostgresShowsTheFindings(t *testing.T) {
	for _, f := range findings() {
		t.Run(f.name, func(t *testing.T) {
			got := f.played(newRealPair(t))
			if got != f.want {
				t.Errorf("PostgreSQL shows\n%s\nwant\n%s", got, f.want)
			}
			if model := f.played(newModelPair(t)); model != got {
				t.Errorf("the model shows\n%s\nand PostgreSQL\n%s", model, got)
			}
		})
	}
}

// TestEveryFindingHasAScript: K3 to K9, each by its number.
func TestEveryFindingHasAScript(t *testing.T) {
	for _, number := range []string{"K3", "K4", "K5", "K6", "K7", "K8", "K9"} {
		if !slices.ContainsFunc(findings(), func(f finding) bool { return strings.HasPrefix(f.name, number+" ") }) {
			t.Errorf("no script plays %s", number)
		}
	}
}

// behind says in words how far a position is, compared with the last acknowledged commit.
func behind(at, acked pg.LSN) string {
	switch {
	case at == 0:
		return "unknown"
	case at < acked:
		return "less"
	}
	return "all"
}
