// Package beat does the I/O around the vouched lease: every node sends a beat, with its report, to every voter several
// times per second; a voter answers whether it vouches; a majority of vouches of one beat is the primary's lease. What
// the beats say of their senders is kept as sightings, from which the leader decides.
//
// The package must never see raft and must never decide anything about Postgres: it reports, vouches and counts. A
// promise is on disk before it is spoken, and one silent peer must never delay the beats to another.
package beat
