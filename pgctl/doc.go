// Package pgctl drives the Postgres of this node: it says what the server and its directory are (Status), what the one
// next action is (Next, pure) and carries that action out (Instance).
//
// It must never decide who is primary, must never start or promote a Postgres for writing without a lease that the node
// shows it, must never give a standby a primary_conninfo of an epoch it has detached from, must never send a cancel
// request for a statement that may wait for synchronous replication, and must never remove anything that the user's
// data is in: a directory that is replaced stays beside the new one.
//
// Epochs are plain numbers and nodes are names here; what they mean is the business of the replicated state.
package pgctl
