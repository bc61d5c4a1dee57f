package pgctl

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxIncludes is how deep configuration files may include each other; Postgres's own limit is 10.
const maxIncludes = 10

// conf is what a configuration file and the files that it includes say.
type conf struct {
	set   map[string]string // names in lower case
	named []string          // the included files and directories, also those that need not be there
}

// readConf reads a postgresql.conf in the order of Postgres: the last setting counts. A line that can't be understood is an
// error: what it sets would be lost.
func readConf(path string) (conf, error) {
	c := conf{set: map[string]string{}}
	return c, c.add(path, 0)
}

func (c *conf) add(path string, depth int) error {
	if depth > maxIncludes {
		return fmt.Errorf("read %s: files include each other %d deep", path, depth)
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read a configuration file: %w", err)
	}
	for n, line := range strings.Split(string(content), "\n") {
		name, value, ok := confSetting(line)
		if !ok {
			return fmt.Errorf("read %s: line %d is no setting", path, n+1) // which may hold a password, so it is not shown
		}
		if name == "" {
			continue
		}
		if !isInclude(name) {
			c.set[name] = value
			continue
		}
		if err := c.include(name, under(filepath.Dir(path), value), depth); err != nil {
			return err
		}
	}
	return nil
}

func (c *conf) include(how, path string, depth int) error {
	c.named = append(c.named, path)
	if how != "include_dir" {
		err := c.add(path, depth+1)
		if how == "include_if_exists" && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return fmt.Errorf("list included files: %w", err)
	}
	for _, e := range entries { // sorted, as Postgres reads them
		if strings.HasPrefix(e.Name(), ".") || !strings.HasSuffix(e.Name(), ".conf") || e.IsDir() {
			continue
		}
		c.named = append(c.named, filepath.Join(path, e.Name()))
		if err := c.add(filepath.Join(path, e.Name()), depth+1); err != nil {
			return err
		}
	}
	return nil
}

// under resolves a name as the file that mentions it does.
func under(dir, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// confSetting reads one line: name, optional equals sign, value, which may be quoted, comment. An empty name is a line that
// sets nothing.
func confSetting(line string) (name, value string, ok bool) {
	line = strings.TrimSpace(line)
	if line == "" || line[0] == '#' {
		return "", "", true
	}
	if !isReadable(line) {
		return "", "", false
	}
	name = settingOf(line)
	rest := strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(line[len(name):]), "="))
	if !strings.HasPrefix(rest, "'") {
		value, _, _ = strings.Cut(rest, "#")
		value = strings.TrimSpace(value)
		return name, value, value != ""
	}
	var out strings.Builder
	for at := 1; at < len(rest); at++ {
		switch c := rest[at]; {
		case c == '\'' && at+1 < len(rest) && rest[at+1] == '\'':
			at++
			out.WriteByte('\'')
		case c == '\'':
			return name, out.String(), true
		case c == '\\' && at+1 < len(rest):
			at++
			out.WriteByte(unescaped(rest[at]))
		default:
			out.WriteByte(c)
		}
	}
	return "", "", false
}

// unescaped is what a backslash before c means; octal numbers do not occur in settings that people write.
func unescaped(c byte) byte {
	if at := strings.IndexByte("bfnrt", c); at >= 0 {
		return "\b\f\n\r\t"[at]
	}
	return c
}

// readHBA returns the lines of a pg_hba.conf without comments. What refers to another file is an error: quorate writes its
// own hba file elsewhere, and has no place for name maps. So is a secret: the lines would go into the cluster's configuration,
// which many may read, and for the same reason no line is shown.
func readHBA(path string) ([]string, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read who may connect: %w", err)
	}
	var out []string
	for n, line := range strings.Split(strings.ReplaceAll(string(content), "\\\n", " "), "\n") {
		line = strings.TrimSpace(beforeComment(line))
		if line == "" {
			continue
		}
		if text := notForAll(line); text != "" {
			return nil, fmt.Errorf("%s, line %d, %s", path, n+1, text)
		}
		out = append(out, line)
	}
	return out, nil
}

// notForAll says why a line of pg_hba can't become one of the whole cluster, empty if it can. Quotes may be around any part
// of an option, its name too; they take the meaning from a leading @.
func notForAll(line string) string {
	const elsewhere = "refers to another file (%s), which quorate does not read"
	for n, field := range strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == ',' }) {
		name, _, option := strings.Cut(strings.ReplaceAll(field, `"`, ""), "=")
		switch {
		case n == 0 && isInclude(field), strings.HasPrefix(field, "@"):
			return fmt.Sprintf(elsewhere, field)
		case option && name == "map":
			return fmt.Sprintf(elsewhere, name)
		case option && (strings.Contains(name, "passw") || strings.Contains(name, "secret")):
			return fmt.Sprintf("has a secret (%s), which everybody could read in the cluster's configuration", name)
		}
	}
	return ""
}

// beforeComment cuts a line at the first # that is not in double quotes.
func beforeComment(line string) string {
	quoted := false
	for at := range len(line) {
		switch {
		case line[at] == '"':
			quoted = !quoted
		case line[at] == '#' && !quoted:
			return line[:at]
		}
	}
	return line
}

// ownConf is the postgresql.conf that quorate's own includes wherever it is.
func (i *Instance) ownConf() string { return filepath.Join(i.cfg.DataDir, "postgresql.conf") }

// usedConf is the configuration file of the last server on the directory.
func (i *Instance) usedConf(o startOptions) string {
	if conf := o.set["config_file"]; conf != "" {
		return under(i.cfg.DataDir, conf)
	}
	return i.ownConf()
}

// findImport finds what a cluster that begins with this directory takes over: settings from a file outside of it, which no
// other node has, and from the command line, and the pg_hba lines unless the node was given some. Of what another quorate
// wrote nothing is taken: its settings came from a configuration like ours. ranLogical is what pg_control says of wal_level.
func (i *Instance) findImport(o startOptions, ranLogical bool) (p Parameters, unread string) {
	managed := o.manager() != ""
	if managed {
		o = startOptions{}
	}
	if o.unclear != "" {
		return p, fmt.Sprintf("its server was started with %s, which can't be taken over: put what it does into postgresql.conf and "+
			"start it without", o.unclear)
	}
	path := i.usedConf(o)
	main, err := readConf(path)
	if err != nil {
		return p, fmt.Sprintf("the postgresql.conf that was in use can't be taken over: %v; put one that can be read into %s", err,
			i.cfg.DataDir)
	}
	if unread := i.incomplete(); unread != "" {
		return p, unread
	}
	auto, err := readConf(i.autoConf())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, fmt.Sprintf("postgresql.auto.conf can't be taken over: %v", err)
	}
	used := maps.Clone(main.set)
	maps.Copy(used, auto.set)
	maps.Copy(used, o.set)
	if ranLogical || strings.EqualFold(used["wal_level"], "logical") {
		return p, "its wal_level is logical, and quorate runs with replica, with which Postgres does not start while there are " +
			"logical slots: drop them, set wal_level = replica where it is set (postgresql.conf, ALTER SYSTEM or the command that " +
			"starts it) and restart it"
	}
	if p.Set, unread = i.importable(path, main.set, auto.set, o); unread != "" || managed || len(i.accepted().HBA) > 0 {
		return p, unread
	}
	hba := filepath.Join(i.cfg.DataDir, "pg_hba.conf")
	if named := used["hba_file"]; named != "" {
		hba = under(i.cfg.DataDir, named)
	}
	if p.HBA, err = readHBA(hba); err != nil {
		return Parameters{}, fmt.Sprintf("the pg_hba.conf that was in use can't be taken over: %v; give the lines that "+
			"shall hold as postgresql.pg_hba in the file of each node", err)
	}
	return p, ""
}

// importable are the settings that the directory does not bring along, nil for none. postgresql.auto.conf, which it does
// bring along, counts more than what the cluster's configuration sets, and less than the command line did.
func (i *Instance) importable(path string, set, auto map[string]string, o startOptions) (out map[string]string, unread string) {
	if path == i.ownConf() && i.brings(path) {
		set = nil
	}
	for _, from := range []map[string]string{set, o.set} {
		for name, value := range from {
			if quorateSets(name) {
				continue
			}
			if out == nil {
				out = map[string]string{}
			}
			out[name] = value
		}
	}
	for _, name := range slices.Sorted(maps.Keys(o.set)) {
		if value, both := auto[name]; both && value != o.set[name] && !quorateSets(name) {
			return nil, fmt.Sprintf("%s was set by the command that started its server and otherwise by ALTER SYSTEM, which would count "+
				"from now on: ALTER SYSTEM RESET %s, or start it without", name, name)
		}
	}
	return out, ""
}

// incomplete says why the postgresql.conf in the directory, which every server on it and on its clones reads, would not do for
// clones, empty if it does. One that is itself elsewhere they don't have, and don't miss: what it sets is imported.
func (i *Instance) incomplete() string {
	own, err := readConf(i.ownConf())
	switch {
	case errors.Is(err, fs.ErrNotExist) && !i.has("postgresql.conf"), err == nil && !i.brings(i.ownConf()):
		return ""
	case err != nil:
		return fmt.Sprintf("the postgresql.conf in the data directory is read by every server on it, and can't be: %v; mend it", err)
	}
	at := slices.IndexFunc(own.named, func(path string) bool { return !i.brings(path) })
	if at < 0 {
		return ""
	}
	return fmt.Sprintf("its postgresql.conf includes %s, which is outside of the data directory, so that clones would lack it: "+
		"copy it into %s and include it from there", own.named[at], i.cfg.DataDir)
}

// brings says that a file is in the directory and comes along with its clones, which links do not.
func (i *Instance) brings(path string) bool {
	dir, err := filepath.EvalSymlinks(i.cfg.DataDir)
	if err != nil {
		return false
	}
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		return within(i.cfg.DataDir, path) // named, and not there
	}
	return err == nil && within(dir, real)
}

// quorateSets says that people can't.
func quorateSets(name string) bool {
	return slices.Contains(OwnedParameters(), name) || name == "wal_level"
}

// unused names the settings in the directory's own files that quorate sets itself, for people. Their values may hold
// passwords.
func (i *Instance) unused() []string {
	var out []string
	for _, path := range []string{i.usedConf(i.lastStart()), i.autoConf()} {
		c, err := readConf(path)
		if err != nil {
			continue // Found has said so, and a file that is not there sets nothing
		}
		for name := range c.set {
			if quorateSets(name) {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
