package pg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrLSN says that a text is not a log position of the form "16/B374D848".
var ErrLSN = errors.New("not a log position")

// ErrSystemID says that a text is not a database system identifier.
var ErrSystemID = errors.New("not a system identifier")

// LSN is a position in the write-ahead log: the offset in bytes from the log's beginning.
// Zero is never the position of a record; it stands for "none".
type LSN uint64

// String renders the position as PostgreSQL does: two upper-case hexadecimal halves.
func (l LSN) String() string {
	return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l))
}

// MarshalText implements encoding.TextMarshaler, so that JSON shows "0/3000060".
func (l LSN) MarshalText() ([]byte, error) {
	return []byte(l.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler; on error the receiver is unchanged.
func (l *LSN) UnmarshalText(text []byte) error {
	parsed, err := ParseLSN(string(text))
	if err != nil {
		return err
	}
	*l = parsed
	return nil
}

// ParseLSN reads what String and PostgreSQL write: 1 to 8 hexadecimal digits on either side of
// a slash. Anything else is ErrLSN.
func ParseLSN(text string) (LSN, error) {
	high, low, ok := strings.Cut(text, "/")
	if !ok {
		return 0, fmt.Errorf("%w: %q has no slash", ErrLSN, text)
	}
	h, okHigh := parseHex32(high)
	l, okLow := parseHex32(low)
	if !okHigh || !okLow {
		return 0, fmt.Errorf("%w: %q needs 1 to 8 hexadecimal digits on each side of the slash", ErrLSN, text)
	}
	return LSN(h)<<32 | LSN(l), nil
}

// parseHex32 reads 1 to 8 hexadecimal digits and nothing else; strconv alone would let a sign
// or an underscore through in some bases and any number of leading zeros in all.
func parseHex32(digits string) (uint32, bool) {
	if len(digits) == 0 || len(digits) > 8 {
		return 0, false
	}
	v, err := strconv.ParseUint(digits, 16, 32)
	return uint32(v), err == nil
}

// Timeline numbers a branch of the write-ahead log; each promotion makes a new one. Zero stands
// for "none".
type Timeline uint32

// SystemID identifies one initdb and all its physical copies. JSON carries it as a string,
// because many readers of JSON keep numbers in 53 bits.
type SystemID uint64

// String renders the identifier in decimal, as pg_controldata does.
func (s SystemID) String() string {
	return strconv.FormatUint(uint64(s), 10)
}

// MarshalText implements encoding.TextMarshaler.
func (s SystemID) MarshalText() ([]byte, error) {
	return []byte(s.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler; on error the receiver is unchanged.
func (s *SystemID) UnmarshalText(text []byte) error {
	v, err := strconv.ParseUint(string(text), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %q", ErrSystemID, text)
	}
	*s = SystemID(v)
	return nil
}

// RunState says what a node's PostgreSQL is doing, as its agent sees it. The zero value means
// that nobody has looked yet.
type RunState string

// The states a local PostgreSQL can be seen in.
const (
	// RunAbsent means that there is no data directory to start from.
	RunAbsent RunState = "absent"
	// RunStopped means that a data directory exists and no process uses it.
	RunStopped RunState = "stopped"
	// RunStarting means that processes exist and do not accept queries yet.
	RunStarting RunState = "starting"
	// RunStandby means that it answers queries and pg_is_in_recovery() is true.
	RunStandby RunState = "standby"
	// RunPrimary means that it answers queries and pg_is_in_recovery() is false.
	RunPrimary RunState = "primary"
	// RunStopping means that a shutdown was requested and processes are still there.
	RunStopping RunState = "stopping"
	// RunFrozen means that the guard holds all its processes still.
	RunFrozen RunState = "frozen"
	// RunUnresponsive means that processes exist and do not answer in time.
	RunUnresponsive RunState = "unresponsive"
)
