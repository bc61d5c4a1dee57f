package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// reader goes over one document. Paths are those of a node file, whatever the document is.
type reader struct {
	root    string // where the document stands in a node file: empty, or dcs and a dot
	top     *item
	seen    map[string]place // every key that has a value, by its path
	errs    []Finding
	said    []Finding // warnings
	patroni bool      // something in it is Patroni's and not quorate's
}

// place is where a value comes from.
type place struct {
	line int
	as   string // the key or variable that was written
}

func newReader(root string, top *item) *reader {
	top.conceal(strings.TrimSuffix(root, "."))
	return &reader{root: root, top: top, seen: map[string]place{}}
}

// name is how the user of this document calls a path.
func (r *reader) name(path string) string { return strings.TrimPrefix(path, r.root) }

func (r *reader) fail(line int, path, format string, args ...any) {
	r.errs = append(r.errs, Finding{Line: line, Key: r.name(path), Text: fmt.Sprintf(format, args...)})
}

func (r *reader) warn(line int, path, text string) {
	r.said = append(r.said, Finding{Line: line, Key: r.name(path), Text: text})
}

// invalid is all that is wrong, or nil.
func (r *reader) invalid() error {
	if len(r.errs) == 0 {
		return nil
	}
	return Invalid(sorted(r.errs))
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// adapt makes a document of quorate's keys of one that may have Patroni's: it renames, takes away with a warning, or
// complains, as the table says. Keys that are in no table stay, for decode to find.
func (r *reader) adapt() {
	r.section(r.top, strings.TrimSuffix(r.root, "."))
	r.said = sorted(r.said)
}

func (r *reader) section(m *item, path string) {
	methods := m.find("create_replica_methods") // it is dropped on the way
	for _, p := range slices.Clone(m.pairs) {
		at := join(path, p.key)
		k, known := keyOf(at)
		switch {
		case strings.HasSuffix(at, "postgresql.parameters") && p.value.kind == mapping:
			r.parameters(p.value, at)
		case !known && isMethod(methods, path, p):
			k, _ = keyOf(join(strings.TrimPrefix(path, dcs+"."), "<method>"))
			r.drop(m, p, at, k)
		case !known && p.value.kind == mapping:
			r.section(p.value, at)
		case known && k.Fate == Used:
			r.use(m, p, at, k)
		case known:
			r.drop(m, p, at, k)
		}
	}
}

// drop takes the pair away and says why, but for one without a value, which says nothing.
func (r *reader) drop(m *item, p *pair, at string, k Key) {
	m.remove(p.key)
	if p.value.kind == absent {
		return
	}
	r.patroni = true
	if k.Fate == Refused || at == dcs+".pause" && r.root != "" { // where somebody asks a running cluster, nobody shall think it paused
		r.fail(p.line, at, "%s", plain(k.Note))
		return
	}
	r.warn(p.line, at, plain(k.Note))
}

// plain is a note of the table without its marks for the page.
func plain(note string) string { return strings.ReplaceAll(note, "`", "") }

// use keeps the pair, under the name and with the value that quorate has for it.
func (r *reader) use(m *item, p *pair, at string, k Key) {
	value := p.value
	if k.into != nil && value.kind != absent {
		var complaint string
		if value, complaint = k.into(value); complaint != "" {
			r.fail(p.line, at, "%s", complaint)
		}
	}
	switch {
	case value == nil:
		m.remove(p.key)
	case k.As == "":
		p.value = value
	default:
		m.remove(p.key)
		r.move(k.As, &pair{line: p.line, was: at, value: value})
	}
}

// move puts the pair at path. One that is there already and says something else is a contradiction.
func (r *reader) move(path string, p *pair) {
	names := strings.Split(strings.TrimPrefix(path, r.root), ".")
	m := r.top
	for _, name := range names[:len(names)-1] {
		next := m.find(name)
		if next == nil {
			next = &pair{key: name, line: p.line, value: &item{kind: absent}}
			m.pairs = append(m.pairs, next)
		}
		if next.value.kind == absent {
			next.value = &item{kind: mapping, line: p.line}
		}
		if m = next.value; m.kind != mapping {
			return // decode complains
		}
	}
	p.key = names[len(names)-1]
	there := m.find(p.key)
	switch {
	case there == nil:
		m.pairs = append(m.pairs, p)
	case !there.value.equal(p.value):
		r.fail(p.line, p.was, "it means %s %s, and line %d says %s: keep one of them", r.name(path), p.value, there.line, there.value)
	}
}

// isMethod tells whether the pair configures a script of the user's own: one that is among the methods, or has a command.
func isMethod(methods *pair, path string, p *pair) bool {
	if path != "bootstrap" && path != "postgresql" && path != dcs+".postgresql" || p.value.kind != mapping {
		return false
	}
	if methods != nil {
		for _, name := range methods.value.items {
			if name.text == p.key {
				return true
			}
		}
	}
	return p.value.find("command") != nil
}

// logLevel understands Python's names too.
func logLevel(given *item) (*item, string) {
	level := strings.ToLower(given.text)
	switch level {
	case "warning":
		level = "warn"
	case "critical", "fatal":
		level = "error"
	case "notset":
		level = "trace"
	}
	return &item{kind: given.kind, line: given.line, text: level}, ""
}

func bootstrapMethod(given *item) (*item, string) {
	if given.kind == scalar && given.text == "initdb" {
		return nil, ""
	}
	return nil, fmt.Sprintf("%s was given; the first data directory is made by initdb only: make it by your method first, "+
		"and start quorate on it", given)
}

func synchronousMode(given *item) (*item, string) {
	if given.kind == scalar && strings.EqualFold(given.text, "quorum") {
		return &item{kind: scalar, line: given.line, text: "quorum"}, ""
	}
	on, ok := boolean(given)
	if !ok {
		return nil, fmt.Sprintf("%s was given, expected off, on or quorum", given)
	}
	text := "async"
	if on {
		text = "quorum"
	}
	return &item{kind: scalar, line: given.line, text: text}, ""
}

// initdbArguments are the options that are passed on. The others are quorate's own, or change what it relies on.
var initdbArguments = []string{
	"builtin-locale", "encoding", "icu-locale", "icu-rules", "lc-collate", "lc-ctype", "lc-messages", "lc-monetary",
	"lc-numeric", "lc-time", "locale", "locale-provider", "no-locale", "text-search-config", "wal-segsize",
}

// initdbOptions makes a list of NAME or NAME=VALUE of the forms that Patroni takes: a list of names and of sections with
// one key, or one section.
func initdbOptions(given *item) (*item, string) {
	out := &item{kind: list, line: given.line}
	entries := given.items
	switch given.kind {
	case mapping:
		entries = []*item{given}
	case scalar:
		return nil, fmt.Sprintf("%s was given, expected a list of options such as - locale: C.UTF-8", given)
	}
	for _, e := range entries {
		pairs := e.pairs
		if e.kind != mapping {
			pairs = []*pair{{key: e.text, value: &item{}}}
		}
		for _, p := range pairs {
			option, on := p.key, true
			if b, ok := boolean(p.value); ok && p.value.plain {
				on = b
			} else if p.value.kind != absent {
				option += "=" + p.value.text
			}
			if p.value.kind == list || p.value.kind == mapping {
				return nil, fmt.Sprintf("%s was given for %s, expected one value", p.value, p.key)
			}
			if on && option != "data-checksums" { // which are always on
				out.items = append(out.items, &item{kind: scalar, line: p.line, text: option})
			}
		}
	}
	return out, ""
}

// parameters gives the parameters the names that Postgres, which ignores their case, shows, and takes away those that
// quorate sets itself to what is asked for or to something as good.
func (r *reader) parameters(m *item, path string) {
	names := map[string]*pair{}
	for _, p := range slices.Clone(m.pairs) {
		given := p.key
		if p.key = strings.ToLower(p.key); names[p.key] != nil {
			r.fail(p.line, join(path, given), "it is given twice, on line %d as well", names[p.key].line)
			continue
		}
		names[p.key] = p
		if instead, same := settled(p.key, p.value.text); same && p.value.kind == scalar {
			m.remove(p.key)
			r.warn(p.line, join(path, p.key), instead)
		}
	}
}

// settled says what quorate has instead of a value that Patroni's users set, if that is as good.
func settled(name, value string) (instead string, same bool) {
	on, isBool := boolean(&item{kind: scalar, text: value})
	number, err := strconv.Atoi(value)
	switch name {
	case "wal_level":
		return "nothing needed: quorate sets it to replica", slices.Contains([]string{"replica", "hot_standby", "archive"}, value)
	case "hot_standby":
		return "nothing needed: quorate sets it to on", isBool && on
	case "wal_log_hints":
		return "nothing needed: quorate sets it to on", isBool
	case "max_wal_senders", "max_replication_slots":
		return fmt.Sprintf("nothing needed: quorate sets it to %d on all nodes", ownSenders), err == nil && number <= ownSenders
	case "recovery_target_timeline":
		return "nothing needed: quorate sets it to latest", value == "latest"
	case "unix_socket_directories":
		return "not used: the socket is in cluster.data_dir, in the directory run", true
	}
	return "", false
}

// ownSenders is what quorate sets max_wal_senders and max_replication_slots to: pgctl's maxSenders.
const ownSenders = 32
