// Package api is the HTTP face of a node: Patroni's health and read paths for proxies and monitoring, and /v1 for the
// command line. It shows what the node knows and forwards what people ask for.
//
// It must never run SQL or anything else that can hang with Postgres: every answer is made from what the node has
// observed already. It must never say that a node is writable for any other reason than Local.Serving.
package api

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// Node is what the API shows. All methods may be called by any goroutine and, but for Explain and
// Submit, return at once.
type Node interface {
	Self() fsm.NodeID
	// State is the agreed truth as this node has applied it; the zero State before there is a cluster.
	State() fsm.State
	// Changed is closed when State shows another state than at the moment of the call.
	Changed() <-chan struct{}
	// Leader is the Raft leader this node knows, empty for none.
	Leader() fsm.NodeID
	// Sightings are the newest reports of all nodes, this one included, as they reached this node.
	Sightings() map[fsm.NodeID]failover.Sighting
	// Local is the newest look at this node's own Postgres.
	Local() Local
	// Explain is the leader's answer if one can be asked before ctx ends, else this node's own as an observer.
	Explain(ctx context.Context) (Explanation, error)
	// ExplainHere is this node's own answer; it asks nobody.
	ExplainHere() (Explanation, error)
	// Submit puts a command into the log. Errors wrap fsm's refusals, or ErrNoQuorum when nobody took it.
	Submit(ctx context.Context, c fsm.Command, by string) error
}

// Local is what a node knows of its own Postgres without asking it. What is zero is left out of the answers.
type Local struct {
	Report failover.Report
	Age    time.Duration // since Postgres was looked at
	// LeaseLeft is what is left of the lease of the present epoch, the margin taken off; 0: there is none.
	LeaseLeft time.Duration
	// Serving: the lease is live, or a pause has Postgres go on without one, which is out of recovery, not frozen, and the
	// epoch not released.
	Serving         bool
	Gated           bool // Postgres runs and keeps clients out
	Streaming       bool // standby: its walreceiver streams
	ServerVersion   int  // as server_version_num
	PostmasterStart time.Time
	Replication     []ReplicationRow // primary only
	ReplayTimestamp time.Time        // of the last replayed transaction
	ReplayPaused    bool
	// PendingRestart are the settings that wait for a restart of Postgres.
	PendingRestart map[string]PendingRestart
	Fence          string // cgroup or signals
	// FenceLate is the longest time by which the guard's fence came after the end of a lease in the life of the guard.
	FenceLate  time.Duration
	FencesLate uint64 // how many fences were later than is allowed for, in the life of the guard
	Guard      string // version of the guard, which may be older than the daemon's
	// Removed is what is to be said if this node is no member any more.
	Removed string
	// Certificate is what is to be said of this node's certificate, if anything.
	Certificate string
	Locked      string // whether the guard's memory is locked: "yes", or "no: " and why
	Reject      string // whether a frozen Postgres refuses new connections: "yes", or "no: " and why
}

// PendingRestart is the value that a setting has, in the units of pg_settings, and the one that it is to have, as people
// wrote it; empty: the server's default.
type PendingRestart struct {
	Old string `json:"old_value"`
	New string `json:"new_value"`
}

// ReplicationRow is one walsender, in the fields of Patroni.
type ReplicationRow struct {
	Username        string `json:"usename"`
	ApplicationName string `json:"application_name"`
	ClientAddr      string `json:"client_addr"`
	State           string `json:"state"`
	SyncState       string `json:"sync_state"`
	SyncPriority    int    `json:"sync_priority"`
}

// Explanation is one node's view with what follows from it.
type Explanation struct {
	Node     fsm.NodeID       `json:"node"`    // whose view it is
	Leading  bool             `json:"leading"` // false: an observer, who does not know the leader's ledger
	Rule     string           `json:"rule"`
	Verdict  failover.Verdict `json:"verdict"`
	Do       string           `json:"do"` // what a leader does about it, for people
	Because  []string         `json:"because"`
	Again    time.Duration    `json:"again"` // nanoseconds until it looks again at the latest, 0: at the next event
	View     failover.View    `json:"view"`
	Timeline []Phase          `json:"timeline"` // of the failovers that this node led
	// Losses says for each member what losing it now would mean. Package api fills it in.
	Losses []failover.Loss `json:"losses"`
}

// Phase is one step of a failover as the leader that did it saw it. At is nanoseconds since boot on its clock, SinceBeat
// how long after the old primary's last beat that was.
type Phase struct {
	Epoch     fsm.Epoch     `json:"epoch"` // the epoch that ended
	Name      string        `json:"name"`
	At        time.Duration `json:"at"`
	SinceBeat time.Duration `json:"since_beat"`
}

// Options say who answers.
type Options struct {
	Scope   string
	Name    string
	Version string         // of quorate
	Tags    map[string]any // shown, and matched by tag_KEY=VALUE
	// Tokens are the bearer tokens that may change something over TCP, one per cluster secret, until SetTokens. Without
	// any, only requests from this machine may.
	Tokens []string
	Access Access
	TLS    *tls.Config // nil: plain HTTP
	// Stop asks the daemon for an orderly end; it returns at once and may be called again.
	Stop       func()
	ReadConfig ReadConfig
	Restart    Restart
	Members    Membership
	Reload     Reload
	Reinit     Reinit
}
