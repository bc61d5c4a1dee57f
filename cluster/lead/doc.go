// Package lead is the leader's loop: from the replicated state, the sightings and a ledger of what the nodes answered it
// makes a failover.View, lets failover.Decide conclude, and carries the conclusion out. Every node keeps a Loop, so that
// a new leader has its own ages at once and an observer can explain; only the Raft leader runs it.
//
// It must never see a socket, never decide anything itself, and never act before a Barrier in its term: until then the
// state it sees may be one that the cluster has long left. Whoever calls it hands in the consensus, the voters and the
// sightings as small interfaces.
package lead
