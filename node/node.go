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

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
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
	// Stop, when closed, asks for an orderly end: hand over if primary, shut Postgres down, end the guard. Cancelling the
	// context of Run only ends the agent; Postgres stays under the guard.
	Stop <-chan struct{}
}

// Node is one running daemon.
type Node struct {
	cfg      config.Config
	opts     Options
	log      hclog.Logger
	timing   config.Timing
	cluster  *cluster.Cluster
	guard    *keeper
	postgres *pgctl.Instance
	fence    *fence
	records  *records
	last     observation
	ending   atomic.Bool // an orderly end was asked for: Postgres shall be shut down
	closing  atomic.Bool // Postgres is being stopped at this moment
	wake     chan struct{}
	restarts chan *restartRequest
	prober   *pgctl.Prober
	stopping atomic.Uint64               // the epoch that this node was told to stop serving because it is sick
	blind    atomic.Pointer[fsm.Release] // the newest release that was made without the agent
	telling  sync.Mutex                  // serialises tell
	told     failover.Report             // by tell
	stop     chan struct{}               // closed by the API's stop request
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

// Run runs the node until ctx ends (Postgres then stays under the guard) or Options.Stop asked for an orderly end. The
// error says what to mend before starting again.
func Run(ctx context.Context, cfg config.Config, o Options) error {
	n := &Node{
		cfg: cfg, opts: o, log: o.Logger, wake: make(chan struct{}, 1), restarts: make(chan *restartRequest, 1), stop: make(chan struct{}),
		timing: config.TimingOf(time.Duration(cfg.Bootstrap.DCS.FailoverAfter)),
	}
	if !favour() {
		n.log.Warn("normal priority: on a busy machine the lease may be lost; give the process CAP_SYS_NICE or set Nice=-10 in its unit")
	}
	if err := os.MkdirAll(cfg.Cluster.DataDir, 0o755); err != nil {
		return fmt.Errorf("make cluster.data_dir: %w", err)
	}
	secrets, err := n.secrets()
	if err != nil {
		return err
	}
	if err := n.openPostgres(ctx, secrets); err != nil {
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

// secrets reads the cluster secret; none is allowed on loopback only, which config has checked.
func (n *Node) secrets() ([]transport.Secret, error) {
	text := []byte(n.cfg.Cluster.Secret)
	if f := n.cfg.Cluster.SecretFile; f != "" {
		b, err := os.ReadFile(f)
		if err != nil {
			return nil, fmt.Errorf("read cluster.secret_file: %w", err)
		}
		text = b
	}
	if len(text) == 0 {
		return nil, nil
	}
	s, err := transport.ParseSecret(text)
	if err != nil {
		return nil, fmt.Errorf("cluster.secret: %w", err)
	}
	return []transport.Secret{s}, nil
}

// openPostgres adopts or starts the guard, fences what a dead guard left, and opens the instance. A witness has neither.
func (n *Node) openPostgres(ctx context.Context, secrets []transport.Secret) error {
	if n.cfg.Cluster.Role == fsm.RoleWitness {
		return nil
	}
	pc, err := n.postgresConfig(secrets)
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
	if err != nil {
		return fmt.Errorf("open Postgres: %w", err)
	}
	n.prober = n.postgres.NewProber(n.timing.FailoverAfter)
	return nil
}

func (n *Node) postgresConfig(secrets []transport.Secret) (pgctl.Config, error) {
	p := n.cfg.PostgreSQL
	host, portText, err := net.SplitHostPort(p.Listen)
	if err != nil {
		return pgctl.Config{}, fmt.Errorf("postgresql.listen: %w", err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return pgctl.Config{}, fmt.Errorf("postgresql.listen: port %q: %w", portText, err)
	}
	bin := p.BinDir
	if bin == "" {
		if bin, err = findBinaries(); err != nil {
			return pgctl.Config{}, err
		}
	}
	first := n.parameters(0, n.cfg.Bootstrap.DCS) // until the replicated ones are known
	state := filepath.Join(n.cfg.Cluster.DataDir, "postgres")
	return pgctl.Config{
		Scope: n.cfg.Scope, Name: n.cfg.Name, OSUser: osUser(p.OSUser), BinDir: bin, DataDir: p.DataDir,
		StateDir: state, SocketDir: filepath.Join(n.cfg.Cluster.DataDir, "run"), Listen: host, Port: port,
		Superuser:     credentials(p.Authentication.Superuser, secrets, "superuser"),
		Replication:   credentials(p.Authentication.Replication, secrets, "replication"),
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

// credentials fills in a password that the node file leaves out: the same on every node that holds the cluster secret.
func credentials(r config.Role, secrets []transport.Secret, label string) pgctl.Credentials {
	c := pgctl.Credentials{Name: r.Username, Password: r.Password}
	if c.Password == "" && len(secrets) > 0 {
		c.Password = fmt.Sprintf("%x", transport.DeriveKey(secrets[0], "quorate/password/"+label+"/1")[:16])
	}
	if c.Password == "" && label == "replication" {
		c.Password = "quorate-loopback-only"
	}
	return c
}

// findBinaries picks the newest Postgres of Debian's layout.
func findBinaries() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil {
		return "", fmt.Errorf("look for Postgres: %w", err)
	}
	best, version := "", 0
	for _, dir := range found {
		if v, err := strconv.Atoi(filepath.Base(filepath.Dir(dir))); err == nil && v > version {
			best, version = dir, v
		}
	}
	if best == "" {
		return "", errors.New("no Postgres below /usr/lib/postgresql: install postgresql-15 or set postgresql.bin_dir")
	}
	return best, nil
}

// openCluster opens this node's membership. A witness reports as soon as it runs.
func (n *Node) openCluster(secrets []transport.Secret) error {
	c := n.cfg
	doc, err := c.Bootstrap.DCS.Doc()
	if err != nil {
		return err
	}
	m := fsm.Member{
		Name: c.Name, Role: c.Cluster.Role, Addr: c.Cluster.ConnectAddress, API: c.RestAPI.ConnectAddress,
		NoFailover: c.Tags.NoFailover, Priority: c.Tags.FailoverPriority,
	}
	if m.Role == fsm.RoleData {
		m.Postgres = c.PostgreSQL.ConnectAddress
	}
	n.cluster, err = cluster.Open(cluster.Config{
		Dir: c.Cluster.DataDir, Scope: c.Scope, Listen: c.Cluster.Listen, Member: m, Peers: c.Cluster.Peers, Secrets: secrets,
		Settings:  c.Bootstrap.DCS.Settings(),
		ConfigDoc: doc,
	}, cluster.Deps{
		Boot: guard.Now, Logger: n.log, Network: transport.TCP(2 * time.Second),
		DataFacts: n.dataFacts, MayHold: n.mayHold, Detach: n.detach, StopSick: n.stopSick, OnLease: n.onLease, OnHigher: n.onHigher, Exit: n.exit,
	})
	if err != nil {
		return fmt.Errorf("open the cluster: %w", err)
	}
	if n.fence != nil {
		n.fence.self = n.cluster.Self()
	}
	return nil
}
