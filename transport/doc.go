// Package transport moves bytes between nodes: one TCP port, mutual TLS 1.3
// from the cluster secret, protocols told apart by ALPN (raft, beats, gossip,
// calls), packets over UDP on the same port number, and an in-memory network with
// the same face for tests in synctest bubbles.
//
// It knows who is at the other end (cluster id and node id, proved by the
// certificate) and nothing about what is said. It must never import fsm, pgctl
// or cluster, must never look at the wall clock to judge a certificate that was
// derived from the secret, and must never hand out a connection whose peer it has not identified. Of packets it knows
// nothing: whoever takes them has to decrypt them.
//
// Read mux.go first: a Mux owns the port, Accept gives the connections of one
// protocol, Dial makes them. RaftLayer and RPC are thin users of the Mux.
package transport
