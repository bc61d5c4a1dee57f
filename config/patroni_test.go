package config

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// patroniKeys are the lines of testdata/patroni-keys.txt.
func patroniKeys(t *testing.T) []string {
	t.Helper()
	f, err := os.Open("testdata/patroni-keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []string
	for s := bufio.NewScanner(f); s.Scan(); {
		if !strings.HasPrefix(s.Text(), "#") {
			out = append(out, s.Text())
		}
	}
	return out
}

// TestKeys: each of Patroni's keys, or a section that it is in, has one row, and a row that is used leads to a field.
func TestKeys(t *testing.T) {
	for _, key := range patroniKeys(t) {
		covered := false
		for path := key; path != "" && !covered; path = path[:max(strings.LastIndexByte(path, '.'), 0)] {
			for _, name := range []string{"<method>", "<name>", "*"} {
				_, ok := keyOf(strings.ReplaceAll(path, "NAME", name))
				covered = covered || ok
			}
		}
		if !covered {
			t.Errorf("%s is in no row", key)
		}
	}
	fields := paths("", reflect.TypeFor[Config]())
	seen := map[string]bool{}
	for _, k := range Keys() {
		if seen[k.Path] {
			t.Errorf("%s has two rows", k.Path)
		}
		seen[k.Path] = true
		if used := firstOf(k.As, k.Path); k.Fate == Used && !slices.Contains(fields, used) &&
			!slices.Contains([]string{"tags.<name>", "bootstrap.method"}, used) {
			t.Errorf("%s is used, and %s is no field", k.Path, used)
		}
		if k.Fate != Used && (k.Note == "" || k.As != "" || k.into != nil) {
			t.Errorf("%s: %s needs a note and nothing else", k.Path, k.Fate)
		}
	}
}

func firstOf(texts ...string) string {
	return texts[slices.IndexFunc(texts, func(s string) bool { return s != "" })]
}

// TestEveryKeySaysOnce puts each of Patroni's keys into a node file. One that is not used gives exactly one warning, which
// names it and its line; one that is refused exactly one error; one that is used neither.
func TestEveryKeySaysOnce(t *testing.T) {
	before, err := Decode([]byte(minimal), nil)
	if err != nil || len(before.Warnings) > 0 {
		t.Fatal(before.Warnings, err)
	}
	tried := 0
	for _, k := range Keys() {
		places := []string{k.Path}
		if strings.HasPrefix(k.Path, "postgresql.") && strings.Count(k.Path, ".") == 1 && k.Fate != Used {
			places = append(places, dcs+"."+k.Path)
		}
		for _, path := range places {
			path = strings.NewReplacer("*", "replication", "<method>", "mine", "<name>", "rack").Replace(path)
			text, line := withKey(t, path, samples[k.Path])
			c, err := Decode([]byte(text), nil)
			c.Warnings = slices.DeleteFunc(c.Warnings, func(f Finding) bool { return f.Key == dcs+".durability" })
			tried++
			switch invalid, _ := err.(Invalid); {
			case k.Fate == Refused && (len(invalid) != 1 || invalid[0].Key != path || invalid[0].Line != line):
				t.Errorf("%s, refused, gives %v, want one error of line %d", path, err, line)
			case k.Fate != Refused && err != nil:
				t.Errorf("%s, %s, gives %v", path, k.Fate, err)
			case k.Fate == Used && len(c.Warnings) > 0:
				t.Errorf("%s is used, and gives %v", path, c.Warnings)
			case k.Fate == Ignored && (len(c.Warnings) != 1 || c.Warnings[0].Key != path || c.Warnings[0].Line != line):
				t.Errorf("%s, not used, gives %v, want one warning of line %d", path, c.Warnings, line)
			}
		}
	}
	if tried < 150 {
		t.Errorf("only %d keys were tried", tried)
	}
}

// samples are values for keys that do not take just any.
var samples = map[string]string{
	"bootstrap.method": "initdb", "bootstrap.<method>": "{command: /bin/restore}", "postgresql.<method>": "{command: /bin/copy}",
	"bootstrap.initdb": "[locale: de_DE.UTF-8]", "bootstrap.pg_hba": "[local all all peer]", dcs + ".synchronous_mode": "quorum",
	dcs + ".synchronous_mode_strict": "on", dcs + ".maximum_lag_on_failover": "1048576", "log.type": "json", "log.level": "WARNING",
	"scope": "demo", "name": "n1", "restapi.listen": "10.0.0.1", "restapi.connect_address": "10.0.0.1:8008",
	"postgresql.listen": "10.0.0.1,127.0.0.1:5432", "postgresql.connect_address": "10.0.0.1", "postgresql.data_dir": "/pg", "postgresql.bin_dir": "/bin",
	"postgresql.authentication.superuser.username": "admin", "postgresql.authentication.superuser.password": "123",
	"postgresql.parameters": "{work_mem: 4MB}", "postgresql.pg_hba": "[local all all peer]",
	"tags.nofailover": "yes", "tags.failover_priority": "2", "tags.noloadbalance": "true", "tags.<name>": "A7",
	"restapi.authentication": "{username: u, password: p}", "restapi.verify_client": "none", "restapi.allowlist": "[10.0.0.0/8]",
}

// companions are keys that come in pairs.
var companions = map[string]string{"restapi.certfile": "keyfile", "restapi.keyfile": "certfile"}

// withKey returns the minimal file with a key, and the line of that. A key that is in the file already is replaced.
func withKey(t *testing.T, path, value string) (text string, line int) {
	t.Helper()
	top, err := parse([]byte(minimal))
	if err != nil {
		t.Fatal(err)
	}
	if value == "" {
		value = "anything"
	}
	r := newReader("", top)
	names := strings.Split(path, ".")
	m := top
	for _, name := range names[:len(names)-1] {
		if m.find(name) == nil {
			m.pairs = append(m.pairs, &pair{key: name, value: &item{kind: mapping}})
		}
		m = m.find(name).value
	}
	if other := companions[path]; other != "" {
		m.pairs = append(m.pairs, &pair{key: other, value: &item{kind: scalar, text: "/other", plain: true}})
	}
	m.remove(names[len(names)-1])
	m.pairs = append(m.pairs, &pair{key: names[len(names)-1], value: &item{kind: scalar, text: value, plain: true}})
	var b strings.Builder
	write(&b, r.top, "")
	for n, l := range strings.Split(b.String(), "\n") {
		if strings.HasSuffix(l, names[len(names)-1]+": "+value) {
			line = n + 1
		}
	}
	return b.String(), line
}

func write(b *strings.Builder, m *item, indent string) {
	for _, p := range m.pairs {
		switch p.value.kind {
		case mapping:
			fmt.Fprintf(b, "%s%s:\n", indent, p.key)
			write(b, p.value, indent+"  ")
		case list:
			fmt.Fprintf(b, "%s%s:\n", indent, p.key)
			for _, e := range p.value.items {
				fmt.Fprintf(b, "%s- %q\n", indent, e.text)
			}
		default:
			fmt.Fprintf(b, "%s%s: %s\n", indent, p.key, p.value.text)
		}
	}
}

const page = "../docs/patroni.md"

// TestDocument keeps docs/patroni.md as the table is. `go test ./config -run TestDocument -rewrite` writes it anew.
func TestDocument(t *testing.T) {
	want := renderDocument()
	if f := flag.Lookup("rewrite"); f != nil && f.Value.String() == "true" {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != want {
		t.Error("docs/patroni.md is not what the table is; write it anew: go test ./config -run TestDocument -rewrite")
	}
}

const preface = `# A patroni.yml as a node file

This page is generated from the table in ` + "`config/patroni.go`" + `; a test keeps it current. Don't edit it:
` + "`go test ./config -run TestDocument -rewrite`" + ` writes it anew.

` + "`quorate run -c patroni.yml`" + ` works. ` + "`quorate config check patroni.yml`" + ` says before what is not followed, what is wrong, and what
would be used. What Patroni knows is either

- **used**: the key does in quorate what it does in Patroni, under the name that is given where that is another;
- **not used**: one warning, with its line, says what takes its place or that nothing is needed;
- **refused**: quorate would do something else than the file asks for, so it does not start.

Any other key is an error, with its line and the key that was probably meant.

What a patroni.yml does not say:

- **` + "`cluster`" + `**, which takes the place of etcd and its like. Without it the cluster port is 7400 beside ` + "`restapi.listen`" + ` and
  ` + "`restapi.connect_address`" + `, and the node waits for ` + "`quorate init`" + ` or ` + "`quorate join`" + `, which bring the secret, too.
- **` + "`bootstrap.dcs.durability`" + `**. Patroni without ` + "`synchronous_mode`" + ` is asynchronous and can lose acknowledged commits in a
  failover. quorate's default is ` + "`quorum`" + `, and a warning says so; ` + "`synchronous_mode: off`" + ` or ` + "`durability: async`" + ` asks for
  Patroni's.

Values may have the forms that Patroni takes: on, yes and true are true; a parameter may be a number or a boolean; addresses
may lack their port; ` + "`*:5432`" + ` (in quotes) and ` + "`:5432`" + ` listen on all addresses, and ` + "`0.0.0.0,::1:5432`" + ` on two of Postgres.
Parameters that Patroni's users set and quorate sets itself (wal_level, hot_standby, wal_log_hints, max_wal_senders,
max_replication_slots) give a warning if what quorate sets is as good, else an error. Variables ` + "`PATRONI_...`" + ` are not read;
` + "`QUORATE_SECTION_KEY`" + ` are.

`

// renderDocument is the whole page.
func renderDocument() string {
	var b strings.Builder
	b.WriteString(preface)
	section := ""
	for _, k := range Keys() {
		s := "top level"
		if names := strings.Split(k.Path, "."); len(names) > 1 {
			s = names[0]
			if strings.HasPrefix(k.Path, dcs+".") {
				s = dcs
			}
		}
		if s != section {
			if section != "" {
				b.WriteString("\n")
			}
			section = s
			fmt.Fprintf(&b, "## %s\n\n", strings.ToUpper(s[:1])+s[1:])
			if s == "postgresql" {
				b.WriteString("What is not used here is not used in bootstrap.dcs.postgresql either, and the same is said of it.\n\n")
			}
			b.WriteString("| Patroni's key | in quorate | |\n|---|---|---|\n")
		}
		fate := string(k.Fate)
		if k.As != "" {
			fate += " as `" + k.As + "`"
		}
		note := strings.TrimPrefix(strings.TrimPrefix(k.Note, string(k.Fate)), ": ")
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.Path, fate, note)
	}
	return b.String()
}
