package cluster

import (
	"time"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// beatsPerFailoverAfter is how many beats fit into failover_after.
const beatsPerFailoverAfter = 8

func beatEvery(failoverAfter time.Duration) time.Duration {
	return failoverAfter / beatsPerFailoverAfter
}

// Self is this node's id, known from the moment its directory is made.
func (c *Cluster) Self() fsm.NodeID { return c.identity.get().NodeID }

// ClusterID is the cluster's id; empty while this node belongs to none.
func (c *Cluster) ClusterID() string { return c.identity.clusterID() }

// State is the applied state that this node acts on. It is on this node's disk, and no later call shows an older one. It
// is the zero State while there is no cluster.
func (c *Cluster) State() fsm.State {
	_, s := c.published.current()
	return s
}

// Changed is closed when State shows another state than at the moment of the call: take it before reading State.
func (c *Cluster) Changed() <-chan struct{} { return c.published.change() }

// SetReport is what this node says of itself from the next beat on. Node and Sightings are filled in here.
func (c *Cluster) SetReport(r failover.Report) { c.report.Store(&r) }

// Kick sends a beat at once.
func (c *Cluster) Kick() {
	if b := c.beat.Load(); b != nil {
		b.Kick()
	}
}

// Lease is the epoch whose lease this node holds and its end on Boot's clock, which may be over; zeros when there is none.
func (c *Cluster) Lease() (fsm.Epoch, time.Duration) {
	if b := c.beat.Load(); b != nil {
		return b.Lease()
	}
	return 0, 0
}

// Released ends this node's holding of r.Epoch for good; the caller has made that durable. When it returns, OnLease has
// been told of its last extension.
func (c *Cluster) Released(r fsm.Release) {
	if b := c.beat.Load(); b != nil {
		b.Release(r.Epoch)
	}
}

// Sightings are the reports of all nodes, this one included, as they reached this node.
func (c *Cluster) Sightings() map[fsm.NodeID]failover.Sighting {
	b := c.beat.Load()
	if b == nil {
		return map[fsm.NodeID]failover.Sighting{}
	}
	return b.Sightings()
}

// Timeline lists the phases of the failovers that this node led since it started.
func (c *Cluster) Timeline() []lead.Phase { return c.loop.Timeline() }
