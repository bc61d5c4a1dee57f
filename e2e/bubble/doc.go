// Package bubble runs whole clusters, with the real Raft, beats, vouches and decisions, over an in-memory network under
// testing/synctest: minutes of virtual time in a moment of real time, with no Postgres at all.
//
// It must never be imported. Its nodes are fakes that answer what a real one would and obey the replicated state.
package bubble
