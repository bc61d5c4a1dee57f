// Package sim runs a whole cluster in one goroutine on virtual time, from a seed: the real fsm.State.Apply,
// failover.Decide, lease.Voter and lease.Holder, pgctl.Next and rejoin.Decide, between models of Raft, the network, disks,
// clocks, processes, the guard and PostgreSQL. Faults and operators come from a plan that the seed draws. After every
// event it is checked that nobody writes twice and that nothing acknowledged is lost; a seed that fails is shrunk to the
// faults that it takes, and printed as one line per event with the command that replays it.
//
// It must never do real I/O, read a real clock, start a goroutine inside the simulated world or let the order of a map
// decide anything: a seed that can't be replayed proves nothing. What it rewrites of the product instead of calling it is
// named where it is, and what it copies word for word is compared with the source by TestMirrorsAreFaithful.
package sim
