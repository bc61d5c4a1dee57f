package node

import (
	"context"
	"errors"
	"path/filepath"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/transport"
)

// Refused says that an error of Inspect or Recover is a refusal: nothing was changed.
func Refused(err error) bool { return errors.Is(err, cluster.ErrUnfit) }

// Remains is what a node's own disk says of its cluster and of its database.
type Remains struct {
	Self        fsm.NodeID
	State       fsm.State // at the end of Raft's log, and not behind what it had applied
	Index, Term uint64    // of that end
	Doubt       string    // why the log is not all that it had, or may not be
	Postgres    pgctl.Remains
}

// Inspect reads that, while the daemon does not run.
func Inspect(c config.Config) (Remains, error) {
	r, err := cluster.Inspect(c.Cluster.DataDir)
	if err != nil {
		return Remains{}, err
	}
	return Remains{
		Self: r.Self, State: r.State, Index: r.Index, Term: r.Term, Doubt: r.Doubt,
		Postgres: pgctl.Inspect(pgctl.Config{DataDir: c.PostgreSQL.DataDir, StateDir: postgresState(c)}),
	}, nil
}

// postgresState is where pgctl keeps what it knows of the data directory.
func postgresState(c config.Config) string { return filepath.Join(c.Cluster.DataDir, "postgres") }

// Answering asks the other voters whether they live, see cluster.Answering.
func Answering(ctx context.Context, c config.Config, log hclog.Logger) (names []string, majority bool, err error) {
	secrets, err := readSecrets(c.Cluster)
	if err != nil {
		return nil, false, err
	}
	certificate, err := readCertificate(c.Cluster.TLS)
	if err != nil {
		return nil, false, err
	}
	return cluster.Answering(ctx, cluster.Config{
		Dir: c.Cluster.DataDir, Scope: c.Scope, Listen: c.Cluster.Listen, Secrets: secrets, Certificate: certificate,
		Member: fsm.Member{Name: c.Name, Role: c.Cluster.Role, Addr: c.Cluster.ConnectAddress},
	}, transport.TCP(connectionDies), log)
}

// Recover makes a cluster of this node alone, see cluster.Recover.
func Recover(c config.Config, log hclog.Logger) (kept string, err error) {
	return cluster.Recover(c.Cluster.DataDir, log)
}
