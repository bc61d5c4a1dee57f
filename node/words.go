package node

import (
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// guardOptions place the guard beside the agent: same cgroup parent, its own directory.
func (n *Node) guardOptions(dir string) guard.Options {
	cg := n.cfg.Fencing.Cgroup
	if n.cfg.Fencing.Signals {
		cg = ""
	}
	argv := append([]string{}, n.opts.GuardArgv...)
	argv = append(argv, "--dir", dir)
	if cg != "" {
		argv = append(argv, "--cgroup", cg)
	}
	// A minimal environment: the agent's may hold secrets, and what the guard starts would inherit them.
	return guard.Options{Dir: dir, Cgroup: cg, Argv: argv, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}}
}

// witnessStatus is the status of a node without Postgres.
func witnessStatus() pgctl.Status { return pgctl.Status{Run: pg.RunAbsent} }

// sealed is the highest epoch that this node has sealed.
func (n *Node) sealed() fsm.Epoch { return n.cluster.Sightings()[n.cluster.Self()].Sealed }
