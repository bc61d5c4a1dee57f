package pg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
)

var (
	// ErrControlDamaged says that the content of pg_control is too short, fails its checksum or
	// contradicts itself. Nothing in it may be believed.
	ErrControlDamaged = errors.New("pg_control is damaged")
	// ErrControlVersion says that pg_control has a format that this package does not know, or
	// was written by a machine of the other byte order.
	ErrControlVersion = errors.New("pg_control has an unknown format")
)

// ControlState is the state of the cluster as pg_control records it. It lags behind the truth:
// after a crash it still says what the server was doing.
type ControlState uint32

// The states in pg_control, numbered as PostgreSQL numbers them.
const (
	ControlStartingUp ControlState = iota
	ControlShutDown
	ControlShutDownInRecovery
	ControlShuttingDown
	ControlInCrashRecovery
	ControlInArchiveRecovery
	ControlInProduction
)

// String renders the state in the words of pg_controldata.
func (s ControlState) String() string {
	switch s {
	case ControlStartingUp:
		return "starting up"
	case ControlShutDown:
		return "shut down"
	case ControlShutDownInRecovery:
		return "shut down in recovery"
	case ControlShuttingDown:
		return "shutting down"
	case ControlInCrashRecovery:
		return "in crash recovery"
	case ControlInArchiveRecovery:
		return "in archive recovery"
	case ControlInProduction:
		return "in production"
	}
	return fmt.Sprintf("unknown state %d", uint32(s))
}

// Clean reports whether the server ended in good order, so that no log needs to be replayed
// before the files agree with each other.
func (s ControlState) Clean() bool {
	return s == ControlShutDown || s == ControlShutDownInRecovery
}

// Control is what quorate uses of global/pg_control. Sizes are in bytes.
type Control struct {
	SystemID         SystemID
	PgControlVersion uint32
	CatalogVersion   uint32
	State            ControlState

	// Checkpoint is where the last checkpoint's record begins, Redo where replay would start.
	Checkpoint         LSN
	Redo               LSN
	CheckpointTimeline Timeline
	// PrevTimeline differs from CheckpointTimeline when that checkpoint began a new timeline.
	PrevTimeline Timeline

	// MinRecoveryPoint is how far replay must go before the files are consistent; zero when the
	// server was not in archive recovery.
	MinRecoveryPoint    LSN
	MinRecoveryTimeline Timeline
	// BackupStart is not zero, and BackupEndRequired may be true, until the end of the base
	// backup that the directory came from has been replayed.
	BackupStart       LSN
	BackupEnd         LSN
	BackupEndRequired bool

	WalSegmentSize uint64
	WalBlockSize   uint64
	BlockSize      uint64
	DataChecksums  bool
	WalLogHints    bool
	Logical        bool // wal_level of the last server, or of its primary, was logical

	// A standby refuses to start with less than these.
	MaxConnections     int
	MaxWorkerProcesses int
	MaxWalSenders      int
	MaxPreparedXacts   int
	MaxLocksPerXact    int
}

// Offsets into ControlFileData on machines that align 64-bit integers to 8 bytes. They are the
// same in all formats below: format 1800 put wal_level of the checkpoint into what was padding
// (offset 60) and a flag before the nonce, so that only the checksum moved.
const (
	ctlSystemID          = 0
	ctlVersion           = 8
	ctlCatalogVersion    = 12
	ctlState             = 16
	ctlCheckpoint        = 32
	ctlRedo              = 40
	ctlTimeline          = 48
	ctlPrevTimeline      = 52
	ctlMinRecovery       = 136
	ctlMinRecoveryTLI    = 144
	ctlBackupStart       = 152
	ctlBackupEnd         = 160
	ctlBackupEndRequired = 168
	ctlWalLevel          = 172
	ctlWalLogHints       = 176
	ctlMaxConnections    = 180
	ctlMaxWorkers        = 184
	ctlMaxWalSenders     = 188
	ctlMaxPrepared       = 192
	ctlMaxLocks          = 196
	ctlFloatFormat       = 208
	ctlBlockSize         = 216
	ctlWalBlockSize      = 224
	ctlWalSegmentSize    = 228
	ctlChecksumVersion   = 252
)

// walLevelLogical is the number of that value of wal_level in pg_control.
const walLevelLogical = 2

// controlCRCOffset returns where format version keeps its checksum, which covers everything
// before it and so also proves the length of the structure.
func controlCRCOffset(version uint32) (int, bool) {
	switch version {
	case 1300, 1700: // PostgreSQL 13 to 17
		return 288, true
	case 1800: // PostgreSQL 18
		return 292, true
	}
	return 0, false
}

// ParseControl reads the content of global/pg_control of PostgreSQL 13 to 18. It returns
// ErrControlVersion for any other format and ErrControlDamaged for content that fails its
// checksum: a server that is running may be caught in the middle of a write, so a caller reads
// again before it believes in damage.
func ParseControl(content []byte) (Control, error) {
	if len(content) < 16 {
		return Control{}, fmt.Errorf("%w: %d bytes", ErrControlDamaged, len(content))
	}
	version := binary.LittleEndian.Uint32(content[ctlVersion:])
	at, ok := controlCRCOffset(version)
	if !ok {
		return Control{}, fmt.Errorf("%w: format %d is none of 1300, 1700, 1800 (PostgreSQL 13 to 18)", ErrControlVersion, version)
	}
	if len(content) < at+4 {
		return Control{}, fmt.Errorf("%w: %d bytes, needs %d", ErrControlDamaged, len(content), at+4)
	}
	sum := crc32.Checksum(content[:at], crc32.MakeTable(crc32.Castagnoli))
	if stored := binary.LittleEndian.Uint32(content[at:]); stored != sum {
		return Control{}, fmt.Errorf("%w: checksum %08X, computed %08X", ErrControlDamaged, stored, sum)
	}
	return decodeControl(content[:at])
}

// decodeControl takes the fields out of content, whose checksum is right.
func decodeControl(content []byte) (Control, error) {
	u32 := func(at int) uint32 { return binary.LittleEndian.Uint32(content[at:]) }
	u64 := func(at int) uint64 { return binary.LittleEndian.Uint64(content[at:]) }
	num := func(at int) int { return int(int32(u32(at))) }
	c := Control{
		SystemID:            SystemID(u64(ctlSystemID)),
		PgControlVersion:    u32(ctlVersion),
		CatalogVersion:      u32(ctlCatalogVersion),
		State:               ControlState(u32(ctlState)),
		Checkpoint:          LSN(u64(ctlCheckpoint)),
		Redo:                LSN(u64(ctlRedo)),
		CheckpointTimeline:  Timeline(u32(ctlTimeline)),
		PrevTimeline:        Timeline(u32(ctlPrevTimeline)),
		MinRecoveryPoint:    LSN(u64(ctlMinRecovery)),
		MinRecoveryTimeline: Timeline(u32(ctlMinRecoveryTLI)),
		BackupStart:         LSN(u64(ctlBackupStart)),
		BackupEnd:           LSN(u64(ctlBackupEnd)),
		BackupEndRequired:   content[ctlBackupEndRequired] != 0,
		WalSegmentSize:      uint64(u32(ctlWalSegmentSize)),
		WalBlockSize:        uint64(u32(ctlWalBlockSize)),
		BlockSize:           uint64(u32(ctlBlockSize)),
		DataChecksums:       u32(ctlChecksumVersion) != 0,
		WalLogHints:         content[ctlWalLogHints] != 0,
		Logical:             num(ctlWalLevel) == walLevelLogical,
		MaxConnections:      num(ctlMaxConnections),
		MaxWorkerProcesses:  num(ctlMaxWorkers),
		MaxWalSenders:       num(ctlMaxWalSenders),
		MaxPreparedXacts:    num(ctlMaxPrepared),
		MaxLocksPerXact:     num(ctlMaxLocks),
	}
	if c.State > ControlInProduction {
		return Control{}, fmt.Errorf("%w: %s", ErrControlVersion, c.State)
	}
	// PostgreSQL stores this number so that a layout or float format other than the expected
	// one is noticed; it serves us for the layout.
	if math.Float64frombits(u64(ctlFloatFormat)) != 1234567.0 {
		return Control{}, fmt.Errorf("%w: the layout probe at offset %d is not 1234567", ErrControlVersion, ctlFloatFormat)
	}
	if !ValidSegmentSize(c.WalSegmentSize) {
		return Control{}, fmt.Errorf("%w: segment size %d", ErrControlDamaged, c.WalSegmentSize)
	}
	return c, nil
}
