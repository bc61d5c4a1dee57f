package pgctl

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// TestFloors: a setting that would break replication, or a rewind, is raised and said; any other is as it was written.
func TestFloors(t *testing.T) {
	for _, c := range []struct {
		name, value string
		after       time.Duration // failover_after
		want        string        // empty: as written
	}{
		{"wal_sender_timeout", "1s", time.Second, "10000ms"},
		{"wal_sender_timeout", "9999", time.Second, "10000ms"},
		{"wal_sender_timeout", "10000", time.Second, ""},
		{"wal_sender_timeout", "0.1min", time.Second, "10000ms"},
		{"wal_sender_timeout", " 1 min ", time.Second, ""},
		{"wal_sender_timeout", "20s", 5 * time.Second, "50000ms"},
		{"wal_sender_timeout", "0", time.Second, ""}, // never
		{"wal_receiver_timeout", "500ms", time.Second, "10000ms"},
		{"wal_receiver_timeout", "'5s'", time.Second, "10000ms"},
		{"wal_keep_size", "0", time.Second, "512MB"},
		{"wal_keep_size", "511MB", time.Second, "512MB"},
		{"wal_keep_size", "512", time.Second, ""},
		{"wal_keep_size", "524287kB", time.Second, "512MB"},
		{"wal_keep_size", "2GB", time.Second, ""},
		{"wal_keep_size", "1e1", time.Second, "512MB"}, // as Postgres reads numbers, too
		{"wal_keep_size", "1E3", time.Second, ""},
		{"wal_keep_size", ".5GB", time.Second, ""},
		{"wal_keep_size", "1.5e-1 GB", time.Second, "512MB"},
		{"wal_keep_size", "0x10", time.Second, "512MB"},
		{"wal_keep_size", "0x200", time.Second, ""},
		{"wal_keep_size", "0777", time.Second, "512MB"},
		{"wal_keep_size", "01000", time.Second, ""},
		{"wal_keep_size", "+5", time.Second, "512MB"},
		{"wal_keep_size", "\t7", time.Second, "512MB"},
		{"wal_keep_size", "-0", time.Second, "512MB"},
		{"wal_sender_timeout", "-0", time.Second, ""},
		{"wal_sender_timeout", "0x0", time.Second, ""},
		{"wal_sender_timeout", "010000", time.Second, "10000ms"},
		{"wal_keep_size", "0x1.8p3", time.Second, "512MB"}, // it does, and we don't
		{"wal_keep_size", "1 mb", time.Second, "512MB"},    // nor does it
		{"wal_sender_timeout", "-1", time.Second, "10000ms"},
		{"wal_keep_size", "much", time.Second, ""},  // Postgres refuses it,
		{"wal_sender_timeout", "", time.Second, ""}, // and nothing
		{"max_connections", "1", time.Second, ""},   // has no floor
	} {
		settings := map[string]string{c.name: c.value, "work_mem": "1MB"}
		want := maps.Clone(settings)
		if c.want != "" {
			want[c.name] = c.want
		}
		told := Config{FailoverAfter: c.after}.raise(settings)
		if !maps.Equal(settings, want) || (len(told) > 0) != (c.want != "") {
			t.Errorf("%s = %q: %q, %q", c.name, c.value, settings, told)
		}
		if len(told) > 0 && (!strings.Contains(told[0], c.name+" is "+c.want) || !strings.Contains(told[0], c.value)) {
			t.Errorf("%s = %q: said %q", c.name, c.value, told[0])
		}
	}
}
