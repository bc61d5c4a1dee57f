package pgctl

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

// floor is the least that a setting may be in a cluster: less of it would break what quorate counts on (DETAILS 27, 28).
type floor struct {
	name  string
	least float64            // in the smallest of units
	units map[string]float64 // "" is what a bare number means
	never bool               // 0 switches it off, which is no less
	value string             // least, as it is written
	why   string
}

// floors are the settings with a least value. Whoever configures less gets this, and is told so.
func (c Config) floors() []floor {
	ms := map[string]float64{"": 1, "us": 0.001, "ms": 1, "s": 1000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}
	kb := map[string]float64{"": 1024, "B": 1.0 / 1024, "kB": 1, "MB": 1 << 10, "GB": 1 << 20, "TB": 1 << 30}
	least := c.walTimeout().Milliseconds()
	timeout := strconv.FormatInt(least, 10) + "ms"
	const breaks = "a freeze that is thawed again would end replication"
	return []floor{
		{"wal_keep_size", 512 << 10, kb, false, "512MB", "pg_rewind would not find the log that it needs"},
		{"wal_receiver_timeout", float64(least), ms, true, timeout, breaks},
		{"wal_sender_timeout", float64(least), ms, true, timeout, breaks},
	}
}

// quantity is a number as Postgres reads one (strtol with base 0, then strtod), and a unit.
const quantity = `^([+-]?(?:0[xX][0-9a-fA-F]+|[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?))\s*([a-zA-Z]*)$`

// below says that value is less than the floor, or may be: what is not understood here Postgres may understand. What does not even begin
// as a number is left to Postgres, which refuses it.
func (f floor) below(value string) bool {
	value = strings.Trim(value, "' \t\n\v\f\r")
	if value == "" || unicode.IsLetter(rune(value[0])) {
		return false
	}
	parts := regexp.MustCompile(quantity).FindStringSubmatch(value)
	if parts == nil {
		return true
	}
	n, err := strconv.ParseFloat(parts[1], 64)
	if whole, errWhole := strconv.ParseInt(parts[1], 0, 64); errWhole == nil { // hexadecimal and octal are such
		n, err = float64(whole), nil
	}
	unit, known := f.units[parts[2]]
	switch {
	case err != nil || !known:
		return true
	case f.never && n == 0:
		return false
	}
	return n*unit < f.least
}

// raise puts the floors in force and returns what people are to be told of that.
func (c Config) raise(settings map[string]string) []string {
	var told []string
	for _, f := range c.floors() {
		value, set := settings[f.name]
		if set && f.below(value) {
			settings[f.name] = f.value
			told = append(told, fmt.Sprintf("%s is %s and not %s, as it is configured: with less %s", f.name, f.value, value, f.why))
		}
	}
	return told
}
