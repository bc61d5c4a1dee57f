// Package pg is the vocabulary for talking about a PostgreSQL server without touching one:
// log positions, timelines and their histories, segment names, the control file, versions,
// quoting and the synchronous_standby_names we write.
//
// Everything here is a value or a function of its arguments, safe for use by any goroutine.
// The package must never do I/O, read a clock or keep state: the replicated state machine and
// the failover rules are built on it, and they have to compute the same on every node.
//
// Parsers accept only what PostgreSQL 13 to 18 (and quorate itself) write. Input that is merely
// plausible is an error, because a guessed position or timeline decides who holds which commits.
package pg
