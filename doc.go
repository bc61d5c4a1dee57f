// Package quorate is the root of the module and holds no code: the tests beside it enforce the rules that the
// parts keep among themselves (tidy_test.go).
//
// quorate is one binary per Postgres node. Each embeds a Raft voter; the replicated state says who is primary
// and at which epoch, and a node may accept writes only while a majority vouches for it. Begin with
// docs/architecture.md; then read fsm, failover and cluster/lease, which decide everything and do nothing.
//
// This package must never be imported: it exists to be documented and tested.
package quorate
