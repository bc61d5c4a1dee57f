package node

import (
	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/fsm"
)

// Remains is what a node's own disk says of its cluster.
type Remains struct {
	Self  fsm.NodeID
	State fsm.State
}

// Inspect reads that, while the daemon does not run.
func Inspect(c config.Config) (Remains, error) {
	r, err := cluster.Inspect(c.Cluster.DataDir)
	return Remains(r), err
}

// Recover makes a cluster of this node alone, see cluster.Recover.
func Recover(c config.Config, log hclog.Logger) (kept string, err error) {
	return cluster.Recover(c.Cluster.DataDir, log)
}
