package pg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrVersion says that a text does not name a PostgreSQL version.
var ErrVersion = errors.New("not a PostgreSQL version")

// maxShown is how much an error shows of what is no version (bytes): another program may print anything.
const maxShown = 100

// MajorVersion is PostgreSQL's major version, such as 15.
type MajorVersion int

// The range of major versions that quorate manages.
const (
	MinMajor MajorVersion = 13
	MaxMajor MajorVersion = 18
)

// Supported reports whether quorate manages this major version.
func (v MajorVersion) Supported() bool {
	return v >= MinMajor && v <= MaxMajor
}

// ParseVersionFile reads the content of a data directory's PG_VERSION. Versions before 10
// ("9.6") are ErrVersion.
func ParseVersionFile(content string) (MajorVersion, error) {
	return parseMajor(strings.TrimSpace(content), content)
}

// ParseVersionOutput reads what `postgres --version` prints, such as
// "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", "... 18beta1" or "... 16devel".
func ParseVersionOutput(output string) (MajorVersion, error) {
	_, rest, ok := strings.Cut(output, "(PostgreSQL) ")
	if !ok {
		return 0, fmt.Errorf("%w: %q", ErrVersion, Excerpt(output, maxShown))
	}
	digits := len(rest) - len(strings.TrimLeft(rest, "0123456789"))
	if strings.HasPrefix(rest, "9.") {
		return 0, fmt.Errorf("%w: %q is too old", ErrVersion, Excerpt(output, maxShown))
	}
	return parseMajor(rest[:digits], output)
}

// ParseVersionNumber reads the same as server_version_num has it: 150014. It is 0 for a release without a minor number, such as a
// beta.
func ParseVersionNumber(output string) (int, error) {
	major, err := ParseVersionOutput(output)
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(output, "(PostgreSQL) ")
	minor, dotted := strings.CutPrefix(strings.TrimLeft(rest, "0123456789"), ".")
	digits := minor[:len(minor)-len(strings.TrimLeft(minor, "0123456789"))]
	if !dotted || digits == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n > 9999 {
		return 0, fmt.Errorf("%w: %q", ErrVersion, Excerpt(output, maxShown))
	}
	return int(major)*10000 + n, nil
}

// VersionText is a server_version_num as people know it: 15.14.
func VersionText(number int) string { return fmt.Sprintf("%d.%d", number/10000, number%10000) }

// parseMajor reads one or two digits; source is what the error shows.
func parseMajor(digits, source string) (MajorVersion, error) {
	v, err := strconv.ParseUint(digits, 10, 16)
	if err != nil || v < 10 || v > 999 || strings.HasPrefix(digits, "+") {
		return 0, fmt.Errorf("%w: %q", ErrVersion, Excerpt(source, maxShown))
	}
	return MajorVersion(v), nil
}
