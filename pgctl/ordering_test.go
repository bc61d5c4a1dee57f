package pgctl

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/internal/pg"
)

// TestOrdering: rows give max_connections only; the other settings follow the same rule.
func TestOrdering(t *testing.T) {
	at := func(n int) pg.HotStandby {
		if n == 0 {
			return pg.HotStandby{}
		}
		return pg.HotStandby{n, 8, 0, 64}
	}
	for _, c := range []struct {
		name     string
		wanted   string
		primary  bool
		control  int
		running  int
		upstream int
		standbys map[string]int
		file     int
		held     string
	}{
		{"a first primary takes what is wanted", "200", true, 0, 0, 0, nil, 200, ""},
		{"nothing wanted, nothing there: nothing written", "", true, 0, 0, 0, nil, 0, ""},
		{"nothing wanted: a primary keeps what it has", "", true, 300, 300, 0, nil, 300, ""},
		{"nothing wanted: a standby keeps up", "", false, 100, 100, 300, nil, 300, ""},
		{"raising: a standby goes ahead", "200", false, 100, 100, 100, nil, 200, ""},
		{"raising: the primary waits for a standby", "200", true, 100, 100, 0, map[string]int{"n2": 200, "n3": 100}, 100, "stays 100 here until n3 runs with 200"},
		{"raising: all standbys have it", "200", true, 100, 100, 0, map[string]int{"n2": 200, "n3": 200}, 200, ""},
		{"raising: one that doesn't run is not waited for", "200", true, 100, 100, 0, map[string]int{"n2": 200, "n3": 0}, 200, ""},
		{"raising alone", "200", true, 100, 100, 0, nil, 200, ""},
		{"raising: a primary that is down keeps what its log says", "200", true, 100, 0, 0, map[string]int{"n2": 100}, 100, "until n2"},
		{"lowering: the primary goes ahead", "50", true, 100, 100, 0, map[string]int{"n2": 100}, 50, ""},
		{"lowering: a standby waits for the primary", "50", false, 100, 100, 100, nil, 100, "stays 100 here until the primary runs with 50"},
		{"lowering: the primary runs with less, its log has not arrived", "50", false, 100, 100, 50, nil, 100, "until the primary"},
		{"lowering: the log says less", "50", false, 50, 100, 50, nil, 50, ""},
		{"lowering: another primary still has more than the log here says", "50", false, 50, 0, 100, nil, 100, "until the primary"},
		{"a standby that was primary must not start below its new primary", "100", false, 100, 0, 200, nil, 200, "stays 200"},
		{"a standby of a primary that does not say", "50", false, 100, 100, 0, nil, 100, "until the primary"},
		{"settled", "100", true, 100, 100, 0, map[string]int{"n2": 100}, 100, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Ordering{Wanted: map[string]string{}, Primary: c.primary, Control: at(c.control), Running: at(c.running), Upstream: at(c.upstream), Standbys: map[string]pg.HotStandby{}}
			if c.wanted != "" {
				o.Wanted["max_connections"] = c.wanted
			}
			for name, n := range c.standbys {
				o.Standbys[name] = at(n)
			}
			file, held := o.Decide()
			if file[0] != c.file {
				t.Errorf("file has %d, want %d", file[0], c.file)
			}
			if len(held) > 1 || (len(held) == 1) != (c.held != "") || c.held != "" && !strings.Contains(held[0].Because, c.held) {
				t.Errorf("held back %v, want %q", held, c.held)
			}
		})
	}
}

// What replays log needs what wrote it, whoever is to be primary: a survivor that serves reads, and an appointed standby that is down.
func TestToReplay(t *testing.T) {
	for _, c := range []struct {
		name             string
		present, control pg.HotStandby
		wanted           map[string]string
		file             pg.HotStandby
		raised           bool
	}{
		{"lowered for the next start as primary", pg.HotStandby{50, 8, 0, 64}, pg.HotStandby{100, 8, 0, 64}, map[string]string{"max_connections": "50"},
			pg.HotStandby{100, 8, 0, 64}, true},
		{"one lowered, one raised", pg.HotStandby{50, 8, 0, 128}, pg.HotStandby{100, 8, 0, 64}, nil, pg.HotStandby{100, 8, 0, 128}, true},
		{"enough", pg.HotStandby{200, 8, 0, 64}, pg.HotStandby{100, 8, 0, 64}, nil, pg.HotStandby{200, 8, 0, 64}, false},
		{"not ordered yet, too little wanted", pg.HotStandby{}, pg.HotStandby{100, 8, 0, 64}, map[string]string{"max_connections": "50"},
			pg.HotStandby{100, 8, 0, 64}, true},
		{"not ordered yet, enough wanted", pg.HotStandby{}, pg.HotStandby{100, 8, 0, 64}, map[string]string{"max_connections": "150"},
			pg.HotStandby{}, false},
		{"nothing said by anybody", pg.HotStandby{}, pg.HotStandby{100, 8, 0, 64}, nil, pg.HotStandby{}, false},
		{"nothing said here, and more by who wrote the log", pg.HotStandby{}, pg.HotStandby{100, 8, 0, 96}, nil, pg.HotStandby{100, 8, 0, 96}, true},
		{"a zero, and more by who wrote the log", pg.HotStandby{200, 8, 0, 64}, pg.HotStandby{100, 8, 5, 64}, nil, pg.HotStandby{200, 8, 5, 64}, true},
		{"a zero that nobody asked for", pg.HotStandby{100, 8, 0, 64}, pg.HotStandby{100, 8, 0, 64}, nil, pg.HotStandby{100, 8, 0, 64}, false},
	} {
		if file, raised := ToReplay(c.present, c.control, c.wanted); file != c.file || raised != c.raised {
			t.Errorf("%s: %v, %t; want %v, %t", c.name, file, raised, c.file, c.raised)
		}
	}
}

func TestOutgrown(t *testing.T) {
	if got := Outgrown(pg.HotStandby{100, 8, 0, 64}, pg.HotStandby{100, 8, 10, 64}); got != "max_prepared_transactions" {
		t.Errorf("got %q", got)
	}
	if got := Outgrown(pg.HotStandby{100, 8, 0, 64}, pg.HotStandby{50, 8, 0, 64}); got != "" {
		t.Errorf("got %q", got)
	}
	if got := Outgrown(pg.HotStandby{}, pg.HotStandby{50, 8, 0, 64}); got != "" {
		t.Errorf("a server that doesn't run has outgrown %q", got)
	}
}
