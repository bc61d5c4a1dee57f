package api

import (
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestExposition reads what every state exposes as Prometheus does: each metric has its help and type before its samples,
// all samples of it in one place, no sample twice, and every value is a number.
func TestExposition(t *testing.T) {
	sample := regexp.MustCompile(`^([a-z_]+)\{(scope="demo",name="[^"]*"(?:,[a-z]+="[^"]*")*)\} (\S+)$`)
	for _, s := range matrixStates() {
		_, srv := s.server(t)
		w := ask(t, srv, http.MethodGet, "/metrics")
		if kind := w.Header().Get("Content-Type"); w.Code != 200 || !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
			t.Errorf("%s: %d %s", s.name, w.Code, kind)
		}
		now, seen, heads := "", map[string]bool{}, map[string]int{}
		for line := range strings.Lines(w.Body.String()) {
			line = strings.TrimSuffix(line, "\n")
			if head, is := strings.CutPrefix(line, "# "); is {
				word, rest, _ := strings.Cut(head, " ")
				name, text, _ := strings.Cut(rest, " ")
				if heads[word+name]++; heads[word+name] > 1 || text == "" || word == "TYPE" && text != "gauge" && text != "counter" {
					t.Errorf("%s: %s", s.name, line)
				}
				now = name
				continue
			}
			m := sample.FindStringSubmatch(line)
			if m == nil || m[1] != now || heads["HELP"+now] != 1 || heads["TYPE"+now] != 1 || seen[m[1]+m[2]] {
				t.Fatalf("%s: %q", s.name, line)
			}
			seen[m[1]+m[2]] = true
			if _, err := strconv.ParseFloat(m[3], 64); err != nil {
				t.Errorf("%s: %q: %v", s.name, line, err)
			}
		}
	}
}

// TestPatroniMetrics: the names that dashboards use, and those whose value says what a state is.
func TestPatroniMetrics(t *testing.T) {
	names := strings.Fields(`version postgres_running postmaster_start_time primary xlog_location standby_leader replica sync_standby
		quorum_standby xlog_received_location xlog_replayed_location xlog_replayed_timestamp xlog_paused postgres_streaming
		postgres_in_archive_recovery postgres_server_version cluster_unlocked failsafe_mode_is_active failsafe_mode_enabled
		postgres_timeline dcs_last_seen pending_restart is_paused postgres_state failover_priority`)
	for _, s := range matrixStates() {
		_, srv := s.server(t)
		text := ask(t, srv, http.MethodGet, "/metrics").Body.String()
		value := map[string]string{}
		for line := range strings.Lines(text) {
			name, rest, _ := strings.Cut(line, "{")
			_, v, _ := strings.Cut(strings.TrimSpace(rest), "} ")
			value[name] = v
		}
		for _, n := range names {
			if value["patroni_"+n] == "" {
				t.Errorf("%s: no patroni_%s", s.name, n)
			}
		}
		is := func(b bool) string { return map[bool]string{true: "1", false: "0"}[b] }
		for name, want := range map[string]string{
			"patroni_postgres_running": is(s.runs), "patroni_primary": is(s.runs && !s.standby), "patroni_replica": is(s.runs && s.standby),
			"patroni_quorum_standby": is(s.runs && s.standby && s.quorum), "patroni_postgres_streaming": is(s.runs && s.streams),
			"patroni_is_paused": is(strings.HasPrefix(s.name, "paused")), "quorate_serving": is(s.serves), "quorate_gated": is(s.gated),
			"quorate_quorum": is(!s.blind), "quorate_frozen": is(s.name == "frozen"), "quorate_leader": is(s.name != "no-cluster" && s.self() == "n2" && s.name != "cut-off"),
		} {
			if value[name] != want {
				t.Errorf("%s: %s is %q, want %s", s.name, name, value[name], want)
			}
		}
		if known := value["quorate_survivable_failures"] != ""; known != (s.name != "no-cluster") {
			t.Errorf("%s: survivable failures: %q", s.name, value["quorate_survivable_failures"])
		}
	}
}

// self is whom the state is of.
func (s situation) self() string {
	switch s.name {
	case "primary", "frozen", "promoting", "released", "paused", "paused-hung", "hung-primary", "no-cluster":
		return "n1"
	}
	return "n2"
}

func TestLabels(t *testing.T) {
	e := newExposition("a\"b\\c\nd", "n1")
	e.each("x", "help", "node", map[string]float64{"n3": 0.25, "n2": 1 << 60})
	want := "# HELP x help\n# TYPE x gauge\n" +
		"x{scope=\"a\\\"b\\\\c\\nd\",name=\"n1\",node=\"n2\"} 1.152921504606847e+18\n" +
		"x{scope=\"a\\\"b\\\\c\\nd\",name=\"n1\",node=\"n3\"} 0.25\n"
	if got := e.b.String(); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
}
