package pg

// HotStandby holds the settings that a standby must have at least as high as the primary whose log it replays, else it
// stops replaying; the order is that of HotStandbyNames. The zero value means that they are not known. max_wal_senders is
// of the same kind and not here, because quorate fixes it.
type HotStandby [4]int

// HotStandbyNames are the settings in HotStandby, in its order.
func HotStandbyNames() [4]string {
	return [4]string{"max_connections", "max_worker_processes", "max_prepared_transactions", "max_locks_per_transaction"}
}

// HotStandbyDefaults is what a server runs with where nobody says anything (guc_tables.c, the same from 12 to 18; initdb writes fewer
// connections into the file of a directory on a machine that has little shared memory).
func HotStandbyDefaults() HotStandby { return HotStandby{100, 8, 0, 64} }

// Known tells values from their absence: no server runs with max_connections 0.
func (h HotStandby) Known() bool { return h[0] > 0 }

// HotStandby returns what the control data say the primary ran with when it wrote the newest log replayed here.
func (c Control) HotStandby() HotStandby {
	return HotStandby{c.MaxConnections, c.MaxWorkerProcesses, c.MaxPreparedXacts, c.MaxLocksPerXact}
}
