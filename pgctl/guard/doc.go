// Package guard is the process that owns the postmaster and the fencing
// deadline, and the client with which the agent talks to it.
//
// The guard is the parent of the postmaster. The agent writes a verdict and a
// deadline into memory that both share; when the deadline passes the guard
// freezes Postgres at once, and kills it when it stays without a lease. It does
// this with no help from the agent, the network, a disk, SQL or a Go timer, so
// that an agent that died, hangs or is being upgraded cannot leave an unleased
// primary behind.
//
// The guard must never interpret an epoch, must never thaw what it has begun to
// kill, must never say "empty" before every process of the run is gone, and its
// deadline thread must never wait for a socket, a log or a disk while a
// postmaster runs.
//
// Files in Options.Dir: guard.sock (commands, mode 0600), guard.lock (one guard
// per directory; holds its pid and start time), guard.run (what runs, for Sweep
// when the guard is dead), agent.lock (one agent per directory), guard.log and
// guard.paused (written by the agent while the cluster is paused). The shared
// record itself is a memfd that the guard hands out over the socket: a mapped
// file on a disk that hangs would stop both writers in a page fault.
package guard
