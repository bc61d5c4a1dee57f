// Package cluster is the facade of agreement: it bootstraps the cluster, runs Raft, the beats and the leader's loop, and
// tells the rest of the node what the replicated state is, whether this node holds the lease, and who leads.
//
// It must never touch Postgres and must never show a state that is not on this node's disk: everything outside acts on
// State, and applied state never goes back (lease.md rule 2). Raft's own leadership means nothing here but who
// coordinates; who may write is decided by beats and vouches alone.
package cluster
