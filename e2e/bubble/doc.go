// Package bubble runs whole clusters, with the real Raft, beats, vouches and decisions, over an in-memory network under
// testing/synctest: minutes of virtual time in a moment of real time, with no Postgres at all.
//
// Its disks are real files and don't fail, and all its nodes are one program. What a Raft directory that is damaged, full or hangs does
// to its node, and a command that a node does not know, is in the tests of package cluster; e2e fills and hangs the disk in a cluster.
//
// It must never be imported. Its nodes are fakes that answer what a real one would and obey the replicated state.
package bubble
