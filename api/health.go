package api

import (
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

const (
	// aliveWithin is how old the last look at Postgres may be before a supervisor should restart the daemon.
	aliveWithin = 30 * time.Second
	// lookedWithin is how old it may be before nothing is known of Postgres any more; slower clusters have longer.
	lookedWithin = 3 * time.Second
	// readyLag is the lag up to which a standby is ready if neither the caller nor the configuration names one.
	readyLag = 1 << 20
)

// facts are what a health rule looks at: one instant of the node.
type facts struct {
	state fsm.State
	self  fsm.NodeID
	local Local
	seen  map[fsm.NodeID]failover.Sighting
	tags  map[string]any
}

// query are the parameters of a health check.
type query struct{ url.Values }

// rule says whether a health check is 200.
type rule func(facts, query) bool

// healthPaths are Patroni's health checks. tagged wraps those to which tag_KEY=VALUE applies. The primary's are stricter
// than Patroni's, which are 200 from the moment when the lease is held. There are no standby clusters, and no synchronous
// standbys but those of a quorum.
func healthPaths() map[string]rule {
	return map[string]rule{
		"/":                      serving,
		"/primary":               serving,
		"/master":                serving,
		"/read-write":            serving,
		"/leader":                leased,
		"/standby-leader":        never,
		"/standby_leader":        never,
		"/replica":               tagged(replica),
		"/read-only":             tagged(either(serving, replica)),
		"/sync":                  tagged(never),
		"/synchronous":           tagged(never),
		"/read-only-sync":        tagged(serving),
		"/read-only-synchronous": tagged(serving),
		"/quorum":                tagged(quorumStandby),
		"/read-only-quorum":      tagged(either(serving, quorumStandby)),
		"/async":                 tagged(asyncStandby),
		"/asynchronous":          tagged(asyncStandby),
		"/health":                tagged(func(f facts, _ query) bool { return f.running() }),
		"/liveness":              func(f facts, _ query) bool { return f.state.Paused || f.local.Age <= aliveWithin },
		"/readiness":             either(leased, caughtUp),
	}
}

func never(facts, query) bool { return false }

func either(a, b rule) rule { return func(f facts, q query) bool { return a(f, q) || b(f, q) } }

func (s *Server) facts() facts {
	return facts{state: s.node.State(), self: s.node.Self(), local: s.node.Local(), seen: s.node.Sightings(), tags: s.opts.Tags}
}

// health answers a health check: the status says all, the body is for people.
func (s *Server) health(ok rule) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		f, status := s.facts(), http.StatusServiceUnavailable
		if ok(f, query{r.URL.Query()}) {
			status = http.StatusOK
		}
		answer(w, status, s.document(f))
	}
}

func serving(f facts, _ query) bool { return f.local.Serving }

// leased: while the cluster is paused a primary serves without a lease.
func leased(f facts, _ query) bool { return f.holds() }

func (f facts) holds() bool {
	return f.state.Primary == f.self && (f.local.LeaseLeft > 0 || f.local.Serving)
}

// replica is a standby that reads may go to.
func replica(f facts, q query) bool {
	wanted := q.Get("replication_state")
	return !f.tagSet("noloadbalance") && f.running() && f.local.Report.InRecovery && !f.local.Gated &&
		f.lag(f.local.Report.Replay) <= q.maxLag(math.MaxInt64) && (wanted == "" || wanted == f.replicationState())
}

// quorumStandby is a replica whose copy counts for commits, as far as this node is told of the present.
func quorumStandby(f facts, q query) bool { return f.current() && f.inQuorum() && replica(f, q) }

func asyncStandby(f facts, q query) bool { return f.current() && !f.inQuorum() && replica(f, q) }

// inQuorum says that a commit may be acknowledged because this standby has it.
func (f facts) inQuorum() bool {
	return f.state.Sync.Has(f.self) && f.state.Primary != f.self && f.local.Report.InRecovery
}

// current says that this node hears a majority of the voters: what it knows of the cluster is the present.
func (f facts) current() bool {
	age, ok := f.majorityAge()
	return ok && age <= f.failoverAfter()
}

// caughtUp is a standby that lets clients in, streams and is not far behind. One that never heard how far the primary is is not
// known to be.
func caughtUp(f facts, q query) bool {
	at, limit := f.local.Report.Replay, f.state.Config.Settings.MaximumLag
	if q.Get("mode") == "write" {
		at = f.local.Report.Flush
	}
	if limit <= 0 {
		limit = readyLag
	}
	return f.running() && f.local.Report.InRecovery && !f.local.Gated && f.local.Streaming &&
		f.end() > 0 && f.lag(at) <= q.maxLag(limit)
}

// tagged also wants every tag_KEY=VALUE of the query.
func tagged(ok rule) rule {
	return func(f facts, q query) bool {
		if !ok(f, q) {
			return false
		}
		for key, want := range q.Values {
			name, is := strings.CutPrefix(key, "tag_")
			if !is {
				continue
			}
			have, known := f.tags[name]
			if !known || tagText(have) != want[0] {
				return false
			}
		}
		return true
	}
}

// tagText is how Patroni compares a tag's value: strings as they are, all else in lower case.
func tagText(v any) string {
	if text, ok := v.(string); ok {
		return text
	}
	return strings.ToLower(fmt.Sprint(v))
}

func (f facts) tagSet(name string) bool { return tagText(f.tags[name]) == "true" }

// running: Postgres ran when it was looked at, and that was lately. A look that does not come back is what a Postgres that
// hangs looks like from here.
func (f facts) running() bool { return f.local.Report.Run == failover.RunRunning && f.looked() }

func (f facts) looked() bool { return f.local.Age <= max(lookedWithin, 3*f.failoverAfter()) }

func (f facts) failoverAfter() time.Duration {
	return time.Duration(f.state.Config.Settings.FailoverAfterMS) * time.Millisecond
}

func (f facts) replicationState() string {
	if f.local.Report.InRecovery && f.local.Streaming {
		return "streaming"
	}
	return ""
}

// end is how far the primary's log went when last heard of; 0: not known.
func (f facts) end() pg.LSN {
	if f.state.Primary == f.self {
		return f.local.Report.Flush
	}
	if s, ok := f.seen[f.state.Primary]; ok && !s.Report.InRecovery {
		return s.Report.Flush
	}
	return 0
}

// lag is how many bytes at is behind the primary; 0 if the primary's position is not known.
func (f facts) lag(at pg.LSN) int64 {
	end := f.end()
	if end <= at {
		return 0
	}
	return int64(min(uint64(end-at), math.MaxInt64))
}

// maxLag reads lag=: bytes, or a number with kB, MB, GB or TB. What can't be read is no limit, as with Patroni; without
// the parameter it is otherwise.
func (q query) maxLag(otherwise int64) int64 {
	if !q.Has("lag") {
		return otherwise
	}
	number, unit := strings.TrimSpace(q.Get("lag")), int64(1)
	for shift, suffix := range []string{"kB", "MB", "GB", "TB"} {
		if n, ok := strings.CutSuffix(number, suffix); ok {
			number, unit = n, 1<<(10*(shift+1))
			break
		}
	}
	n, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
	if err != nil || math.IsNaN(n) || n*float64(unit) >= math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n * float64(unit))
}
