// Package hostile throws what strangers, and members gone mad, could send at every port of a real cluster on loopback: real
// sockets, TLS, Raft, beats, gossip and HTTP, with no Postgres. What must come of it is nothing.
//
// It must never be imported.
package hostile
