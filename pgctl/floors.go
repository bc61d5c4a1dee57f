package pgctl

import (
	"fmt"
	"strconv"
	"strings"
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

// below says that value is less than the floor. What is no number with a unit is left to Postgres, which refuses it.
func (f floor) below(value string) bool {
	value = strings.Trim(value, "' ")
	digits := value[:len(value)-len(strings.TrimLeft(value, "0123456789."))]
	unit, known := f.units[strings.TrimSpace(value[len(digits):])]
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || f.never && n == 0 {
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
