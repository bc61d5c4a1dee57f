package api

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// truth is what is so in a situation, written down by hand: what Patroni's table of health checks is about.
type truth struct {
	lease, serves   bool // holds the lease; accepts writes
	runs, standby   bool // Postgres answers; it is in recovery
	received, ahead int64
	lost            bool // how far the primary is was never heard
	streams, gated  bool
	quorum, blind   bool // in the synchronous set; does not hear a majority
	private         bool // noloadbalance
	dead            bool // the daemon has not looked at Postgres for long
	tags            map[string]string
}

// situation is a node to ask with what is true of it. received and ahead are the bytes it has not received and replayed.
type situation struct {
	name string
	make func(*testing.T) *fake
	tags map[string]any
	truth
}

func tagged2() map[string]string { return map[string]string{"nofailover": "true", "zone": "A"} }

// matrixStates extend the situations of TestHealth.
func matrixStates() []situation {
	of := func(name string) func(*testing.T) *fake {
		return func(t *testing.T) *fake { return situations(t)[name] }
	}
	n2 := func(change func(*fake)) func(*testing.T) *fake {
		return func(t *testing.T) *fake {
			f := three(t, "n2")
			change(f)
			return f
		}
	}
	all := []situation{
		{name: "primary", make: of("primary"), truth: truth{lease: true, serves: true, runs: true}},
		{name: "standby", make: of("standby"), truth: truth{runs: true, standby: true, streams: true, quorum: true}},
		{name: "frozen", make: of("frozen")},
		{name: "promoting", make: of("promoting"), truth: truth{lease: true, runs: true, standby: true}},
		{name: "released", make: of("released")},
		{name: "behind", make: of("behind"), truth: truth{runs: true, standby: true, streams: true, quorum: true, received: 2 << 20, ahead: 16 << 20}},
		{name: "gated", make: of("gated"), truth: truth{runs: true, standby: true, streams: true, quorum: true, gated: true}},
		{name: "not-streaming", make: of("not streaming"), truth: truth{runs: true, standby: true, quorum: true}},
		{name: "cloning", make: of("cloning")},
		{name: "hung", make: of("hung"), truth: truth{dead: true}},
		{name: "alone", make: of("alone"), truth: truth{runs: true, standby: true, streams: true, quorum: true, lost: true}},
		{name: "cut-off", make: n2(func(f *fake) {
			f.leader = ""
			for _, id := range []fsm.NodeID{"n1", "n3"} {
				f.hear(id, func(s *failover.Sighting) { s.Age = 3200 * time.Millisecond })
			}
		}), truth: truth{runs: true, standby: true, streams: true, quorum: true, blind: true}},
		{name: "async", make: n2(func(f *fake) { f.state.Sync.Members = []fsm.NodeID{"n1", "n3"} }), truth: truth{runs: true, standby: true, streams: true}},
		{name: "private", make: n2(func(*fake) {}), tags: map[string]any{"noloadbalance": true}, truth: truth{runs: true, standby: true, streams: true, quorum: true, private: true}},
		{name: "paused", make: func(t *testing.T) *fake { // It serves without a lease.
			f := three(t, "n1")
			f.state.Paused, f.local.LeaseLeft = true, 0
			return f
		}, truth: truth{lease: true, serves: true, runs: true}},
		{name: "paused-hung", make: func(t *testing.T) *fake {
			f := three(t, "n1")
			f.state.Paused, f.local.LeaseLeft, f.local.Serving, f.local.Age = true, 0, false, time.Hour
			return f
		}},
		{name: "hung-primary", make: func(t *testing.T) *fake { // The lease lives: what may not be is a second writer.
			f := three(t, "n1")
			f.local.Age = time.Minute
			return f
		}, truth: truth{lease: true, serves: true, dead: true}},
		{name: "witness", make: n2(func(f *fake) {
			m := f.state.Members["n2"]
			m.Role = fsm.RoleWitness
			f.state.Members["n2"] = m
			f.hear("n2", func(s *failover.Sighting) { s.Report = failover.Report{Run: failover.RunNone, Healthy: true} })
			f.local = Local{Report: f.local.Report}
		})},
		{name: "no-cluster", make: func(t *testing.T) *fake {
			return &fake{self: "n1", changed: make(chan struct{}), absent: fmt.Errorf("%w: this node belongs to no cluster yet", ErrNoQuorum)}
		}, truth: truth{blind: true}},
	}
	for i, s := range all {
		all[i].truth.tags = tagged2()
		if s.tags != nil {
			all[i].truth.tags = map[string]string{"noloadbalance": "true"}
		}
	}
	return all
}

func (s situation) server(t *testing.T) (*fake, *Server) {
	f := s.make(t)
	srv := server(f)
	if s.tags != nil {
		srv.opts.Tags = s.tags
	}
	return f, srv
}

// parameter is a query string with its meaning.
type parameter struct {
	text  string
	lag   int64 // the greatest allowed; -1: not said
	state string
	write bool // mode=write
	tags  map[string]string
}

const unlimited = 1 << 62

func parameters() []parameter {
	p := func(text string, lag int64) parameter { return parameter{text: text, lag: lag} }
	tag := func(text string, kv ...string) parameter {
		out := parameter{text: text, lag: -1, tags: map[string]string{}}
		for i := 0; i < len(kv); i += 2 {
			out.tags[kv[i]] = kv[i+1]
		}
		return out
	}
	return []parameter{
		p("", -1), p("lag=0", 0), p("lag=1048576", 1<<20), p("lag=16777215", 16<<20-1), p("lag=16777216", 16<<20),
		p("lag=3MB", 3<<20), p("lag=16384kB", 16<<20), p("lag=1GB", 1<<30), p("lag=much", unlimited), p("lag=", unlimited),
		{text: "mode=write", lag: -1, write: true}, {text: "mode=write&lag=3MB", lag: 3 << 20, write: true}, {text: "mode=apply&lag=3MB", lag: 3 << 20},
		{text: "replication_state=streaming", lag: -1, state: "streaming"},
		{text: "replication_state=in%20archive%20recovery", lag: -1, state: "in archive recovery"},
		tag("tag_zone=A", "zone", "A"), tag("tag_zone=B", "zone", "B"), tag("tag_zone=a", "zone", "a"), tag("tag_rack=1", "rack", "1"),
		tag("tag_nofailover=true", "nofailover", "true"), tag("tag_nofailover=True", "nofailover", "True"), tag("tag_zone=A&tag_nofailover=true", "zone", "A", "nofailover", "true"),
		{text: "lag=3MB&replication_state=streaming&tag_zone=A", lag: 3 << 20, state: "streaming", tags: map[string]string{"zone": "A"}},
	}
}

func (q parameter) within(bytes, otherwise int64) bool {
	if q.lag < 0 {
		return bytes <= otherwise
	}
	return bytes <= q.lag
}

// patroniRules say when a health check is 200 by Patroni's documented table. Where quorate is stricter the row says so.
func patroniRules() map[string]func(truth, parameter) bool {
	fits := func(t truth, q parameter) bool {
		for k, v := range q.tags {
			if have, ok := t.tags[k]; !ok || have != v {
				return false
			}
		}
		return true
	}
	replicates := func(t truth, q parameter) bool {
		state := q.state == "" || q.state == "streaming" && t.streams
		// Stricter: clients that would be kept out are not sent there.
		return !t.private && t.runs && t.standby && !t.gated && state && q.within(t.ahead, unlimited)
	}
	// Stricter: the lease alone does not do, Postgres has to be out of recovery, not frozen and not released.
	primary := func(t truth, _ parameter) bool { return t.serves }
	no := func(truth, parameter) bool { return false } // No standby clusters; durability quorum has quorum standbys.
	quorum := func(t truth, q parameter) bool { return !t.blind && t.quorum && replicates(t, q) }
	async := func(t truth, q parameter) bool { return !t.blind && !t.quorum && replicates(t, q) }
	return map[string]func(truth, parameter) bool{
		"/": primary, "/primary": primary, "/master": primary, "/read-write": primary,
		"/leader":         func(t truth, _ parameter) bool { return t.lease },
		"/standby-leader": no, "/standby_leader": no, "/sync": no, "/synchronous": no, "/nonsense": no, "/primaries": no, "/replica/x": no, "/api/primary": no,
		"/replica":               func(t truth, q parameter) bool { return fits(t, q) && replicates(t, q) },
		"/read-only":             func(t truth, q parameter) bool { return fits(t, q) && (t.serves || replicates(t, q)) },
		"/read-only-sync":        func(t truth, q parameter) bool { return fits(t, q) && t.serves },
		"/read-only-synchronous": func(t truth, q parameter) bool { return fits(t, q) && t.serves },
		"/quorum":                func(t truth, q parameter) bool { return fits(t, q) && quorum(t, q) },
		"/read-only-quorum":      func(t truth, q parameter) bool { return fits(t, q) && (t.serves || quorum(t, q)) },
		"/async":                 func(t truth, q parameter) bool { return fits(t, q) && async(t, q) },
		"/asynchronous":          func(t truth, q parameter) bool { return fits(t, q) && async(t, q) },
		"/health":                func(t truth, q parameter) bool { return fits(t, q) && t.runs },
		"/readiness": func(t truth, q parameter) bool {
			lag := t.ahead
			if q.write {
				lag = t.received
			}
			// Stricter: not where clients would be kept out.
			return t.lease || t.runs && t.standby && !t.gated && t.streams && !t.lost && q.within(lag, 1<<20)
		},
	}
}

// TestPatroniTable asks everything in every way and compares with Patroni's table, restated above from hand-written truths.
func TestPatroniTable(t *testing.T) {
	count := 0
	for _, s := range matrixStates() {
		_, srv := s.server(t)
		for path, rule := range patroniRules() {
			for _, q := range parameters() {
				want := http.StatusServiceUnavailable
				if rule(s.truth, q) {
					want = http.StatusOK
				}
				for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
					for _, target := range []string{path + "?" + q.text, strings.TrimSuffix(path, "/") + "/?" + q.text} {
						count++
						w := ask(t, srv, method, target)
						if w.Code != want {
							t.Errorf("%s %s of %s: %d, want %d", method, target, s.name, w.Code, want)
						}
						if has := w.Body.Len() > 0; has != (method == http.MethodGet) {
							t.Errorf("%s %s of %s: a body: %t", method, target, s.name, has)
						}
					}
				}
			}
		}
		// Alive: the daemon looks at Postgres, or is paused.
		want := map[bool]int{true: http.StatusServiceUnavailable, false: http.StatusOK}[s.dead]
		if w := ask(t, srv, http.MethodGet, "/liveness"); w.Code != want {
			t.Errorf("/liveness of %s: %d, want %d", s.name, w.Code, want)
		}
		count++
	}
	t.Logf("%d cases", count)
	if count < 50000 {
		t.Errorf("only %d cases", count)
	}
}

// TestReads shows for every path which states are answered how; `go test ./api -rewrite` writes what is so now.
func TestReads(t *testing.T) {
	count := 0
	datadriven.RunTest(t, "testdata/reads", func(t *testing.T, d *datadriven.TestData) string {
		path := d.CmdArgs[0].Key
		var order []string
		under := map[string][]string{}
		for _, q := range parameters() {
			codes := map[int][]string{}
			for _, s := range matrixStates() {
				_, srv := s.server(t)
				code := ask(t, srv, http.MethodGet, path+"?"+q.text).Code
				count++
				codes[code] = append(codes[code], s.name)
			}
			delete(codes, http.StatusServiceUnavailable)
			result := ""
			for _, code := range slices.Sorted(maps.Keys(codes)) {
				result += fmt.Sprintf("%d %s\n", code, strings.Join(codes[code], " "))
			}
			if under[result] == nil {
				order = append(order, result)
			}
			under[result] = append(under[result], "?"+q.text)
		}
		var out strings.Builder
		for _, result := range order {
			if len(order) > 1 {
				out.WriteString(strings.Join(under[result], " ") + "\n")
			}
			out.WriteString(cmp.Or(result, "nobody\n"))
		}
		return out.String()
	})
	t.Logf("%d cases", count)
}
