package pgctl

import (
	"os"
	"path/filepath"
	"strings"
)

// startOptions are what the last server on a directory was given on its command line, which counts more than its files.
type startOptions struct {
	set     map[string]string // names in lower case
	unclear string            // an option whose meaning is not known here, empty for none
}

// lastStart reads postmaster.opts, which stays when the server has ended and which neither a base backup nor pg_rewind copies.
func (i *Instance) lastStart() startOptions {
	content, err := os.ReadFile(filepath.Join(i.cfg.DataDir, "postmaster.opts"))
	if err != nil {
		return startOptions{}
	}
	return parseOptions(string(content))
}

// parseOptions reads a line such as `/usr/bin/postgres "-D" "/data" "-c" "port=5433"`. Postgres writes the quotes around each
// argument and escapes none within, so an argument that has some comes out as something unclear.
func parseOptions(line string) startOptions {
	o := startOptions{set: map[string]string{}}
	_, rest, some := strings.Cut(strings.TrimSpace(line), ` "`)
	if !some {
		return o
	}
	args := strings.Split(strings.TrimSuffix(rest, `"`), `" "`)
	for len(args) > 0 && o.unclear == "" {
		args = o.take(args)
	}
	return o
}

// take reads the first argument, and the second if it is the value of the first, and returns the others.
func (o *startOptions) take(args []string) []string {
	first, rest := args[0], args[1:]
	if setting, long := strings.CutPrefix(first, "--"); long {
		o.assign("--", setting)
		return rest
	}
	letters, isOption := strings.CutPrefix(first, "-")
	if !isOption || letters == "" {
		o.unclear = "an argument that is no option"
		return nil
	}
	for at, letter := range letters {
		switch letter {
		case 'F':
			o.set["fsync"] = "off"
			continue
		case 'i':
			o.set["listen_addresses"] = "*"
			continue
		case 'l':
			o.set["ssl"] = "on"
			continue
		}
		value := letters[at+1:]
		if value == "" && len(rest) > 0 {
			value, rest = rest[0], rest[1:]
		}
		o.short(letter, value)
		break
	}
	return rest
}

// short is an option of one letter with a value.
func (o *startOptions) short(letter rune, value string) {
	switch letter {
	case 'c':
		o.assign("-c ", value)
	case 'D': // the directory itself
	case 'B':
		o.set["shared_buffers"] = value
	case 'N':
		o.set["max_connections"] = value
	case 'S':
		o.set["work_mem"] = value
	case 'h':
		o.set["listen_addresses"] = value
	case 'k':
		o.set["unix_socket_directories"] = value
	case 'p':
		o.set["port"] = value
	default:
		o.unclear = "-" + string(letter)
	}
}

// assign is a setting by name. Of one that can't be read no more than its kind is shown: there may be a secret in it.
func (o *startOptions) assign(how, setting string) {
	name, value, ok := strings.Cut(setting, "=")
	if !ok {
		o.unclear = how + "without a value"
		return
	}
	o.set[strings.ReplaceAll(strings.ToLower(name), "-", "_")] = value
}

// manager is the quorate node that made these options, empty if none did.
func (o startOptions) manager() string {
	conf, name := o.set["config_file"], o.set["cluster_name"]
	dir := filepath.Dir(conf)
	hba := filepath.Join(dir, "pg_hba.conf")
	if name == "" || filepath.Base(dir) != "postgres" || o.set["hba_file"] != hba || o.set["restart_after_crash"] != "off" {
		return ""
	}
	return name
}
