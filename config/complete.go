package config

import (
	"fmt"
	"net"
	"path/filepath"

	"github.com/quorate/quorate/fsm"
)

// complete fills what follows from other keys, and gives addresses one form.
func (r *reader) complete(c *Config) {
	r.listens("restapi", apiPort, &c.RestAPI.Listen, &c.RestAPI.ConnectAddress, false)
	if c.Cluster.Role != fsm.RoleWitness {
		r.listens("postgresql", postgresPort, &c.PostgreSQL.Listen, &c.PostgreSQL.ConnectAddress, true)
	}
	if len(r.errs) == 0 { // placeCluster builds on them
		r.placeCluster(c)
	}
	if c.Fencing.Cgroup == "" {
		c.Fencing.Cgroup = "quorate/" + c.Scope + "-" + c.Name
	}
	_, c.Bootstrap.SaysFailoverAfter = r.seen[dcs+".failover_after"]
	if _, given := r.seen["tags.failover_priority"]; given && c.Tags.FailoverPriority <= 0 {
		if _, said := r.seen["tags.nofailover"]; said && !c.Tags.NoFailover {
			r.bad("tags.failover_priority", "%d means that this node is never primary, and nofailover%s is false: keep one of them",
				c.Tags.FailoverPriority, r.where("tags.nofailover"))
		}
		c.Tags.NoFailover, c.Tags.FailoverPriority = true, 0
	}
}

// placeCluster decides where the cluster port is: without cluster.listen beside the HTTP port.
func (r *reader) placeCluster(c *Config) {
	cl := &c.Cluster
	if cl.Listen == "" {
		cl.Listen = net.JoinHostPort(hostOf(c.RestAPI.Listen), clusterPort)
		if cl.ConnectAddress == "" {
			cl.ConnectAddress = net.JoinHostPort(hostOf(c.RestAPI.ConnectAddress), clusterPort)
		}
	}
	r.listens("cluster", clusterPort, &cl.Listen, &cl.ConnectAddress, false)
	for i := range cl.Peers {
		r.dialled("cluster.peers", clusterPort, &cl.Peers[i])
	}
	if !hasSecret(*c) && len(cl.Peers) == 0 {
		r.warn(r.line("cluster"), "cluster", fmt.Sprintf("this node names no peers: `quorate init` makes a cluster of it, `quorate join` "+
			"makes it a member of one. Or make a secret, the same on each node (openssl rand -hex 32), and add to each node's file:\n%s", block(c)))
	}
}

// block is the least that makes a node one of several.
func block(c *Config) string {
	own := net.JoinHostPort(hostOf(c.RestAPI.ConnectAddress), clusterPort)
	return fmt.Sprintf("cluster:\n  listen: %s\n  peers: [%s, NODE2:%s, NODE3:%s]   # the same list in every file\n  secret_file: %s",
		own, own, clusterPort, clusterPort, filepath.Join(c.Cluster.DataDir, SecretName))
}
