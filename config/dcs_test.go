package config

import (
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/fsm"
)

const document = `
failover_after: 2s
strict: true
postgresql:
  parameters:
    Max_Connections: 200
    fsync: on
    pg_stat_statements.max: "5000"
  pg_hba:
  - hostssl all all 10.0.0.0/8 scram-sha-256
`

// TestReadDCS: YAML and the JSON made of it say the same, and what is left out has its default.
func TestReadDCS(t *testing.T) {
	d, err := ReadDCS([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(d.FailoverAfter) != 2*time.Second || d.Durability != fsm.DurabilityQuorum || !d.Strict {
		t.Errorf("read %+v", d)
	}
	p := d.PostgreSQL
	if p.Parameters["max_connections"] != "200" || p.Parameters["fsync"] != "on" || p.Parameters["pg_stat_statements.max"] != "5000" || len(p.PgHBA) != 1 {
		t.Errorf("read %+v", p)
	}
	if s := d.Settings(); s.FailoverAfterMS != 2000 || s.Durability != fsm.DurabilityQuorum || !s.Strict {
		t.Errorf("settings %+v", s)
	}
	doc, err := d.Doc()
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.YAML()
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{doc, text} {
		again, err := ReadDCS([]byte(form))
		if err != nil {
			t.Fatalf("%v\n%s", err, form)
		}
		if got, err := again.Doc(); err != nil || got != doc {
			t.Errorf("%s became %s (%v)", doc, got, err)
		}
	}
}

func TestReadDCSRefuses(t *testing.T) {
	for _, c := range []struct {
		name, doc string
		want      []string
	}{
		{"an unknown key", "postgresql:\n  paramters: {}\n", []string{`line 2: postgresql.paramters: unknown key; did you mean "parameters"?`}},
		{"an unknown key in JSON", `{"durabilty":"async"}`, []string{`line 1: durabilty: unknown key; did you mean "durability"?`}},
		{"a key like no other", "interval: 10\n", []string{"line 1: interval: unknown key"}},
		{"what quorate sets", "postgresql: { parameters: { Port: 1, max_wal_senders: 64 } }", []string{"parameter port", "parameter max_wal_senders is set by quorate itself to 32"}},
		{"no number", "postgresql: { parameters: { max_connections: many } }", []string{`max_connections: "many"`, "from 1 to"}},
		{"a file in a value", "postgresql: { parameters: { work_mem: \"1\\ninclude 'x'\" } }", []string{"work_mem", "one line"}},
		{"a directive for a name", "postgresql: { parameters: { \"include x\": y } }", []string{"include x"}},
		{"nothing but reserved", "postgresql: { parameters: { max_connections: 3, superuser_reserved_connections: 3 } }", []string{"max_connections: 3 leaves nothing beside superuser_reserved_connections 3 (line 1)"}},
		{"a line that is none", "postgresql: { pg_hba: [\"hots all all all md5\"] }", []string{"entry 1", "begins with none"}},
		{"a line that goes on", "postgresql: { pg_hba: [\"host all all all md5 \\\\\"] }", []string{"entry 1", "backslash"}},
		{"a comment that ends", "postgresql: { pg_hba: [\"# x\\nlocal all all trust\"] }", []string{"entry 1", "not one line"}},
		{"a short line", "postgresql: { pg_hba: [\"host all all md5\"] }", []string{"lacks fields"}},
		{"contradictions", "{strict: true, durability: async}", []string{"strict: true contradicts durability: async (line 1)"}},
		{"two faults", "{failover_after: 1ms, durability: none}", []string{"failover_after: 1ms", `durability: "none"`}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ReadDCS([]byte(c.doc))
			for _, w := range c.want {
				if err == nil || !strings.Contains(err.Error(), w) {
					t.Errorf("error is %v, want it to contain %s", err, w)
				}
			}
			if err != nil && c.name == "a key like no other" && strings.Contains(err.Error(), "did you mean") {
				t.Errorf("a far-fetched hint: %v", err)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	base := `{"failover_after":"1s","durability":"quorum","postgresql":{"parameters":{"work_mem":"4MB","max_connections":"100"}}}`
	for _, c := range []struct{ name, patch, want string }{
		{"one value", "postgresql: { parameters: { Work_Mem: 64MB } }", `{"failover_after":"1s","durability":"quorum","postgresql":{"parameters":{"max_connections":"100","work_mem":"64MB"}}}`},
		{"a number", `{"postgresql":{"parameters":{"max_connections":200}}}`, `{"failover_after":"1s","durability":"quorum","postgresql":{"parameters":{"max_connections":"200","work_mem":"4MB"}}}`},
		{"a null removes its value", "postgresql: { parameters: { work_mem: null } }", `{"failover_after":"1s","durability":"quorum","postgresql":{"parameters":{"max_connections":"100"}}}`},
		{"a null removes a section", "postgresql: null", `{"failover_after":"1s","durability":"quorum"}`},
		{"the default comes back", "durability: null", base},
		{"a list is replaced", `{"postgresql":{"parameters":null,"pg_hba":["local all all peer"]}}`, `{"failover_after":"1s","durability":"quorum","postgresql":{"pg_hba":["local all all peer"]}}`},
		{"strictness", "strict: true", `{"failover_after":"1s","durability":"quorum","strict":true,"postgresql":{"parameters":{"max_connections":"100","work_mem":"4MB"}}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, err := Merge(base, []byte(c.patch))
			if err != nil {
				t.Fatal(err)
			}
			var want DCS
			if want, err = ReadDCS([]byte(c.want)); err != nil {
				t.Fatal(err)
			}
			got, _ := d.Doc()
			if text, _ := want.Doc(); got != text {
				t.Errorf("got %s\nwant %s", got, text)
			}
		})
	}
	for _, patch := range []string{"", "- a", "x", "strct: true", "strict: perhaps"} {
		if d, err := Merge(base, []byte(patch)); err == nil {
			t.Errorf("%q was taken: %+v", patch, d)
		} else {
			t.Logf("%q: %v", patch, err)
		}
	}
}
