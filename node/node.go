// Package node puts one quorate daemon together: it wires the cluster, the guard, Postgres and the API, and runs the
// agent, the loop that brings the local Postgres to what the cluster agreed.
//
// Consensus and Postgres meet only here. The package must never decide who is primary, and must never open Postgres for
// writing without having recorded that and without a lease of the present epoch.
package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
	"github.com/quorate/quorate/transport"
)

// Options are what the caller of Run knows besides the node file.
type Options struct {
	Logger  hclog.Logger
	Version string
	// GuardArgv starts a guard process for the directory and cgroup appended to it.
	GuardArgv []string
	// Reload reads the node file again; Hangup asks for that.
	Reload func() (config.Config, error)
	Hangup <-chan struct{}
	// Stop, when closed, asks for an orderly end: hand over if primary, shut Postgres down, end the guard. Cancelling the
	// context of Run only ends the agent; Postgres stays under the guard.
	Stop <-chan struct{}
}

// Node is one running daemon.
type Node struct {
	cfg      config.Config
	opts     Options
	log      hclog.Logger
	timing   config.Timing // of the cluster, not of the node file
	cluster  *cluster.Cluster
	guard    *keeper
	postgres *pgctl.Instance
	fence    *fence
	records  *records
	last     observation
	finding  finding
	// adoptFrom is the node whose data directory the cluster shall begin with, as a person said; empty: the rules find out.
	adoptFrom string
	ending    atomic.Bool // an orderly end was asked for: Postgres shall be shut down
	closing   atomic.Bool // Postgres is being stopped at this moment
	wake      chan struct{}
	restarts  chan *restartRequest
	prober    *pgctl.Prober
	stopping  atomic.Uint64               // the epoch that this node was told to stop serving because it is sick
	blind     atomic.Pointer[fsm.Release] // the newest release that was made without the agent
	warns     atomic.Pointer[[]string]    // see watchWarnings
	telling   sync.Mutex                  // serialises tell
	told      failover.Report             // by tell
	stop      chan struct{}               // closed by the API's stop request

	pending   atomic.Pointer[map[string]api.PendingRestart]
	reloading sync.Mutex                        // serialises reloads
	file      atomic.Pointer[config.PostgreSQL] // of the node file as it was read last; nil: it was not read again

	api    *api.Server
	tokens atomic.Pointer[[]string] // of the API, one per cluster secret
	// certificate is of an own PKI as it was read at the start; nil: there is none.
	certificate *transport.PEM
	reread      chan struct{} // the files that are followed are to be looked at now
}

// observation is the newest look at Postgres, for the API.
type observation struct {
	mu     sync.Mutex
	status pgctl.Status
	rep    failover.Report
	at     time.Duration // of the look, on the guard's clock
}

func (o *observation) set(s pgctl.Status, r failover.Report, at time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.status, o.rep, o.at = s, r, at
}

func (o *observation) report() failover.Report {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.rep
}

func (o *observation) get() (pgctl.Status, failover.Report, time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.status, o.rep, o.at
}

// ErrNodeFile is what Run returns when what the node file asks for can't be had: mend the file, or what it names.
var ErrNodeFile = errors.New("the node file can't be followed")

// Run runs the node until ctx ends (Postgres then stays under the guard) or Options.Stop asked for an orderly end. The
// error says what to mend before starting again.
func Run(ctx context.Context, cfg config.Config, o Options) error {
	n := &Node{
		cfg: cfg, opts: o, log: o.Logger, wake: make(chan struct{}, 1), restarts: make(chan *restartRequest, 1), stop: make(chan struct{}), reread: make(chan struct{}, 1),
	}
	if !favour() {
		n.log.Warn("normal priority: on a busy machine the lease may be lost; give the process CAP_SYS_NICE or set Nice=-10 in its unit")
	}
	if err := os.MkdirAll(cfg.Cluster.DataDir, 0o755); err != nil {
		return fmt.Errorf("make cluster.data_dir, or name another that this user may make: %w", err)
	}
	var err error
	if n.certificate, err = readCertificate(n.cfg.Cluster.TLS); err != nil {
		return err
	}
	secrets, ok, err := n.begin(ctx)
	if err != nil || !ok {
		return err
	}
	if err := n.takeTiming(); err != nil {
		return err
	}
	if err := n.openPostgres(ctx); err != nil {
		return err
	}
	if n.guard != nil {
		defer n.guard.Close()
	}
	// Not before the guard's directory is this agent's: one that lives still may write its last promise or release, and an
	// agent that goes on without it would break it (lease.md rules 8 and 18).
	if n.records, err = openRecords(cfg.Cluster.DataDir); err != nil {
		return err
	}
	if err := n.openCluster(secrets); err != nil {
		return err
	}
	return n.serve(ctx, secrets)
}

// openPostgres adopts or starts the guard, fences what a dead guard left, and opens the instance. A witness has neither.
func (n *Node) openPostgres(ctx context.Context) error {
	if n.cfg.Cluster.Role == fsm.RoleWitness {
		return nil
	}
	pc, err := n.postgresConfig()
	if err != nil {
		return err
	}
	dir := filepath.Join(n.cfg.Cluster.DataDir, "guard")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the guard's directory: %w", err)
	}
	if n.guard, err = openKeeper(ctx, n.guardOptions(dir), n.opts.Version, n.log); err != nil {
		return err
	}
	n.fence = &fence{guard: n.guard, margin: n.timing.Margin, state: func() fsm.State { return n.cluster.State() }}
	n.postgres, err = pgctl.Open(pc, pgctl.Deps{Guard: n.guard, Lease: n.fence.Held, Logger: n.log})
	if errors.Is(err, pgctl.ErrConfig) {
		return fmt.Errorf("%w: %w", ErrNodeFile, err)
	}
	if err != nil {
		return fmt.Errorf("open Postgres: %w", err)
	}
	n.prober = n.postgres.NewProber(n.timing.FailoverAfter)
	return nil
}

func (n *Node) postgresConfig() (pgctl.Config, error) {
	p := n.cfg.PostgreSQL
	host, portText, err := net.SplitHostPort(p.Listen)
	if err != nil {
		return pgctl.Config{}, fmt.Errorf("postgresql.listen: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return pgctl.Config{}, fmt.Errorf("postgresql.listen: port %q: %w", portText, err)
	}
	bin, err := n.binDir()
	if err != nil {
		return pgctl.Config{}, fmt.Errorf("%w: %w", ErrNodeFile, err)
	}
	first := n.parameters(0, n.cfg.Bootstrap.DCS) // until the replicated ones are known
	made := &passwords{dir: n.cfg.Cluster.DataDir, log: n.log}
	return pgctl.Config{
		Scope: n.cfg.Scope, Name: n.cfg.Name, OSUser: osUser(p.OSUser), BinDir: bin, DataDir: p.DataDir,
		StateDir: postgresState(n.cfg), SocketDir: filepath.Join(n.cfg.Cluster.DataDir, "run"), Listen: host, Port: port,
		Superuser:     made.credentials(p.Authentication.Superuser, "superuser"),
		Replication:   made.credentials(p.Authentication.Replication, "replication"),
		InitDB:        n.cfg.Bootstrap.InitDB,
		Parameters:    first.Set,
		HBA:           first.HBA,
		FailoverAfter: n.timing.FailoverAfter,
		KillAfter:     time.Duration(n.cfg.Fencing.KillAfter),
	}, nil
}

// osUser is whom Postgres runs as: the configured user when this is root, else the user that runs quorate.
func osUser(configured string) string {
	if os.Getuid() == 0 {
		return configured
	}
	return ""
}

// openCluster opens this node's membership. A witness reports as soon as it runs.
func (n *Node) openCluster(secrets []transport.Secret) error {
	c, err := n.clusterConfig(secrets)
	if err != nil {
		return err
	}
	n.cluster, err = cluster.Open(c, cluster.Deps{
		Boot: guard.Now, Logger: n.log, Network: transport.TCP(connectionDies),
		DataFacts: n.dataFacts, MayHold: n.mayHold, Detach: n.detach, StopSick: n.stopSick, OnLease: n.onLease, OnHigher: n.onHigher, Exit: n.exit,
	})
	if err != nil {
		return fmt.Errorf("open the cluster: %w", portTaken("cluster.listen", c.Listen, err))
	}
	if n.fence != nil {
		n.fence.self = n.cluster.Self()
	}
	if n.adoptFrom != "" {
		if err := n.cluster.AdoptFrom(n.adoptFrom); err != nil {
			return err
		}
	}
	if n.cluster.ClusterID() == "" {
		n.dataFacts() // begins to look, so that the first to ask needn't wait for it
	}
	return nil
}

// connectionDies is how long data to another node may stay unacknowledged.
const connectionDies = 2 * time.Second

// clusterConfig is what the node file says of the cluster.
func (n *Node) clusterConfig(secrets []transport.Secret) (cluster.Config, error) {
	c := n.cfg
	doc, err := c.Bootstrap.DCS.Doc()
	if err != nil {
		return cluster.Config{}, err
	}
	m := fsm.Member{
		Name: c.Name, Role: c.Cluster.Role, Addr: c.Cluster.ConnectAddress, API: apiAddress(c.RestAPI),
		NoFailover: c.Tags.NoFailover, Priority: preference(c.Tags), NoVote: c.Cluster.NoVote,
	}
	if m.Role == fsm.RoleData {
		m.Postgres = c.PostgreSQL.ConnectAddress
		major, err := n.major()
		if err != nil {
			return cluster.Config{}, err
		}
		m.Major = int(major)
	}
	return cluster.Config{
		Dir: c.Cluster.DataDir, Scope: c.Scope, Listen: c.Cluster.Listen, Member: m, Peers: c.Cluster.Peers, Secrets: secrets, Certificate: n.certificate,
		Settings:  c.Bootstrap.DCS.Settings(),
		ConfigDoc: doc,
	}, nil
}

// major is the version of the PostgreSQL that this node would run.
func (n *Node) major() (pg.MajorVersion, error) {
	bin, err := n.binDir()
	if err != nil {
		return 0, err
	}
	return pgctl.BinaryVersion(bin)
}

func (n *Node) binDir() (string, error) {
	if dir := n.cfg.PostgreSQL.BinDir; dir != "" {
		return dir, nil
	}
	return findBinaries(n.cfg.PostgreSQL.DataDir)
}
