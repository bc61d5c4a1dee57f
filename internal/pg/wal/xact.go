package wal

import (
	"encoding/binary"
	"fmt"
)

// Commit is the end of a transaction that was committed.
type Commit struct {
	XID      uint32 // 0 if a prepared transaction's record is too long for its number to be found
	Prepared bool   // it was prepared before
	// UnixMicro is when it was committed by the server's clock, in microseconds since 1970.
	UnixMicro int64
}

// Transaction records: managerXact with one of these operations in the info byte.
const (
	managerXact      = 1
	xactOperation    = 0x70
	xactCommit       = 0x00
	xactCommitPrep   = 0x30
	xactHasInfo      = 0x80
	postgresEpoch    = 946684800 * 1_000_000 // of 2000-01-01, in Unix microseconds
	maxBody          = 1 << 20               // what is kept of a transaction's record, in bytes
	blockDataShort   = 255                   // heads of a record's parts
	blockDataLong    = 254
	blockOrigin      = 253
	blockTopLevelXID = 252
)

// Flags that say which parts a commit record has, and how long the items of those are, in the order of the record.
const (
	hasDatabase   = 1 << 0
	hasSubXacts   = 1 << 1
	hasRelations  = 1 << 2
	hasInvals     = 1 << 3
	hasTwoPhase   = 1 << 4
	hasStatsDrops = 1 << 8
)

// shown turns a record into what a visitor sees.
func (r record) shown(magic uint16) Record {
	out := Record{
		Start: r.start, End: r.end, Timeline: r.timeline,
		Manager: r.header[offManager], Info: r.header[offInfo], XID: binary.LittleEndian.Uint32(r.header[offXID:]),
	}
	op := out.Info & xactOperation
	if out.Manager != managerXact || op != xactCommit && op != xactCommitPrep {
		return out
	}
	out.Commit = &Commit{XID: out.XID, Prepared: op == xactCommitPrep}
	data := mainData(r.body)
	if len(data) < 8 {
		return out
	}
	out.Commit.UnixMicro = int64(binary.LittleEndian.Uint64(data)) + postgresEpoch
	if out.Commit.Prepared {
		out.Commit.XID = 0
		if out.Info&xactHasInfo != 0 {
			major, _ := magicMajor(magic)
			out.Commit.XID = preparedXID(data[8:], int(major))
		}
	}
	return out
}

// mainData skips the heads of a record that has no blocks, which is what commits are.
func mainData(body []byte) []byte {
	for len(body) > 0 {
		size := 0
		switch body[0] {
		case blockDataShort:
			size = 2
		case blockDataLong:
			size = 5
		case blockOrigin:
			body = body[min(len(body), 3):]
			continue
		case blockTopLevelXID:
			body = body[min(len(body), 5):]
			continue
		default:
			return nil
		}
		return body[min(len(body), size):]
	}
	return nil
}

// preparedXID finds the number of a prepared transaction, which comes after all lists of a commit record.
func preparedXID(data []byte, major int) uint32 {
	if len(data) < 4 {
		return 0
	}
	flags := binary.LittleEndian.Uint32(data)
	data = data[4:]
	if flags&hasDatabase != 0 {
		data = data[min(len(data), 8):]
	}
	statsItem := 12
	if major >= 18 {
		statsItem = 16
	}
	for _, list := range []struct {
		flag uint32
		item int
	}{{hasSubXacts, 4}, {hasRelations, 12}, {hasStatsDrops, statsItem}, {hasInvals, 16}} {
		if flags&list.flag == 0 {
			continue
		}
		if len(data) < 4 {
			return 0
		}
		count := uint64(binary.LittleEndian.Uint32(data))
		data = data[4:]
		data = data[min(uint64(len(data)), count*uint64(list.item)):]
	}
	if flags&hasTwoPhase == 0 || len(data) < 4 {
		return 0
	}
	return binary.LittleEndian.Uint32(data)
}

// ManagerName is what pg_waldump calls the resource manager of a record.
func ManagerName(id uint8) string {
	names := []string{
		"XLOG", "Transaction", "Storage", "CLOG", "Database", "Tablespace", "MultiXact", "RelMap", "Standby", "Heap2", "Heap",
		"Btree", "Hash", "Gin", "Gist", "Sequence", "SPGist", "BRIN", "CommitTs", "ReplicationOrigin", "Generic", "LogicalMessage",
	}
	if int(id) < len(names) {
		return names[id]
	}
	return fmt.Sprintf("custom%03d", id)
}
