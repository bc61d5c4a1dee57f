package pgctl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
)

// maxSenders is both max_wal_senders and max_replication_slots. It is the same on all nodes for ever: a standby refuses
// to start with fewer senders than its primary has.
const maxSenders = 32

// commandLine is how postgres is started: the settings that must not be changed by anything in PGDATA.
func (i *Instance) commandLine(major pg.MajorVersion) []string {
	c := i.cfg
	walLevel := "replica"
	if strings.EqualFold(c.Parameters["wal_level"], "logical") {
		walLevel = "logical"
	}
	fixed := [][2]string{
		// The directory's own postgresql.conf could name another one.
		{"data_directory", c.DataDir},
		{"config_file", c.confFile()}, {"hba_file", c.hbaFile()}, {"ident_file", c.identFile()},
		{"listen_addresses", c.Listen}, {"port", strconv.Itoa(c.Port)}, {"unix_socket_directories", c.SocketDir},
		{"cluster_name", c.clusterName()}, {"wal_level", walLevel}, {"hot_standby", "on"},
		{"max_wal_senders", strconv.Itoa(maxSenders)}, {"max_replication_slots", strconv.Itoa(maxSenders)},
		{"wal_log_hints", "on"}, {"restart_after_crash", "off"}, {"recovery_target_timeline", "latest"},
	}
	// A standby that reaches a target opens for writing, or does when replay is resumed, without anybody's lease.
	for _, target := range []string{"recovery_target", "recovery_target_lsn", "recovery_target_name", "recovery_target_time", "recovery_target_xid"} {
		fixed = append(fixed, [2]string{target, ""})
	}
	if major < 16 {
		fixed = append(fixed, [2]string{"promote_trigger_file", ""})
	}
	if major >= 17 {
		fixed = append(fixed, [2]string{"allow_alter_system", "off"})
	}
	argv := []string{filepath.Join(c.BinDir, "postgres"), "-D", c.DataDir}
	for _, f := range fixed {
		argv = append(argv, "-c", f[0]+"="+f[1])
	}
	return argv
}

// clusterName shows in process titles; 63 bytes is Postgres's limit.
func (c Config) clusterName() string {
	name := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '\'' {
			return '_'
		}
		return r
	}, c.Scope+"/"+c.Name)
	return name[:min(len(name), 63)]
}

// serverFile is a file that Postgres reads, outside PGDATA.
type serverFile struct {
	path    string
	content string
}

// serverFiles are hba, ident, pgpass and the configuration file.
func (i *Instance) serverFiles(l live) ([]serverFile, error) {
	ident, err := i.ident()
	if err != nil {
		return nil, err
	}
	conf, err := i.configuration(i.accepted())
	if err != nil {
		return nil, err
	}
	return []serverFile{
		{i.cfg.hbaFile(), i.hbaWith(l.Gated)}, {i.cfg.identFile(), ident}, {i.cfg.confFile(), conf}, {i.cfg.passFile(), passLine(i.cfg.Replication)},
	}, nil
}

// writeServerFiles brings them to the durable copy of the settings.
func (i *Instance) writeServerFiles() error {
	l, _, _ := i.snapshot()
	files, err := i.serverFiles(l)
	if err != nil {
		return err
	}
	return i.writeFiles(files)
}

// writeFiles writes those that differ.
func (i *Instance) writeFiles(files []serverFile) error {
	for _, f := range files {
		if old, err := os.ReadFile(f.path); err == nil && string(old) == f.content {
			continue
		}
		if err := i.writeFile(f.path, []byte(f.content)); err != nil {
			return err
		}
	}
	return nil
}

// passLine is a libpq password file for any server, in whose fields colons and backslashes are escaped.
func passLine(c Credentials) string {
	escape := strings.NewReplacer(`\`, `\\`, `:`, `\:`)
	return "*:*:*:" + escape.Replace(c.Name) + ":" + escape.Replace(c.password()) + "\n"
}

// hba lets quorate's own role in over the socket only, replication from the members, then whom the user allows, or with
// the gate closed nobody.
func (i *Instance) hba() string {
	l, _, _ := i.snapshot()
	return i.hbaWith(l.Gated)
}

// hbaWith is hba with the gate closed or open.
func (i *Instance) hbaWith(gated bool) string {
	var out strings.Builder
	agent, repl := pg.QuoteIdent(AgentRole), pg.QuoteIdent(i.cfg.Replication.Name)
	fmt.Fprintf(&out, "# Written by quorate; changes are lost. Use: quorate edit-config\n")
	fmt.Fprintf(&out, "local all %s peer map=quorate\nlocal replication %s peer map=quorate\nlocal all %s reject\nhost all %s all reject\n", agent, agent, repl, agent)
	for _, addr := range i.memberAddresses() {
		bits := 32
		if strings.Contains(addr, ":") {
			bits = 128
		}
		fmt.Fprintf(&out, "host replication %s %s/%d scram-sha-256\n", repl, addr, bits)
		fmt.Fprintf(&out, "host postgres %s %s/%d scram-sha-256\n", repl, addr, bits) // pg_rewind
	}
	if gated {
		return out.String() + gateLines
	}
	lines := i.accepted().HBA
	if len(lines) == 0 {
		lines = DefaultHBA()
	}
	for _, line := range lines {
		out.WriteString(line + "\n")
	}
	return out.String()
}

// memberAddresses lists the addresses of all members, sorted.
func (i *Instance) memberAddresses() []string {
	i.facts.Lock()
	defer i.facts.Unlock()
	var out []string
	for _, addrs := range i.names {
		out = append(out, addrs...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ident maps the OS users that may be quorate's role.
func (i *Instance) ident() (string, error) {
	self, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("look up the agent's own user: %w", err)
	}
	users := []string{"root", "postgres", self.Username}
	if i.cfg.OSUser != "" {
		users = append(users, i.cfg.OSUser)
	}
	slices.Sort(users)
	var out strings.Builder
	for _, u := range slices.Compact(users) {
		fmt.Fprintf(&out, "quorate %s %s\n", pg.QuoteIdent(u), AgentRole)
	}
	return out.String(), nil
}

// configuration is our postgresql.conf: the directory's own first, then what quorate recommends, then the user's.
func (i *Instance) configuration(a accepted) (string, error) {
	c := i.cfg
	keep, err := slotLimit(filepath.Dir(c.DataDir))
	if err != nil {
		return "", err
	}
	timeout := strconv.FormatInt(c.walTimeout().Milliseconds(), 10) + "ms"
	settings := map[string]string{
		"wal_keep_size": "512MB", "wal_sender_timeout": timeout, "wal_receiver_timeout": timeout,
		"max_slot_wal_keep_size": keep, "password_encryption": "scram-sha-256",
		"logging_collector": "off", "log_line_prefix": "%m [%p] %q%u@%d ",
		// A restart of the agent must find the title of the walreceiver.
		"update_process_title": "on",
	}
	for name, value := range a.Set {
		if !strings.EqualFold(name, "wal_level") {
			settings[strings.ToLower(name)] = value
		}
	}
	c.raise(settings)
	for n, name := range pg.HotStandbyNames() {
		// Not known: as wanted. A zero that nobody asked for is the default, or what the directory's own file says.
		if _, set := settings[name]; a.Hot.Known() && (set || a.Hot[n] > 0) {
			settings[name] = strconv.Itoa(a.Hot[n])
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "# Written by quorate; changes are lost. Use: quorate edit-config\n")
	fmt.Fprintf(&out, "include_if_exists '%s'\n", filepath.Join(c.DataDir, "postgresql.conf"))
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		out.WriteString(confLine(name, settings[name]))
	}
	return out.String(), nil
}

// slotLimit is max_slot_wal_keep_size: a tenth of the file system, at most 16 GB (DETAILS 28).
func slotLimit(dir string) (string, error) {
	for {
		var st unix.Statfs_t
		err := unix.Statfs(dir, &st)
		if err == nil {
			mb := min(st.Blocks*uint64(st.Bsize)/10>>20, 16<<10)
			return strconv.FormatUint(max(mb, 64), 10) + "MB", nil
		}
		if !errors.Is(err, fs.ErrNotExist) || dir == "/" {
			return "", fmt.Errorf("measure the file system of %s: %w", dir, err)
		}
		dir = filepath.Dir(dir)
	}
}

// confLine writes one setting as ALTER SYSTEM does.
func confLine(name, value string) string {
	return name + " = '" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(value) + "'\n"
}

// confValue reads the value of a line as ALTER SYSTEM and confLine write it.
func confValue(line string) (name, value string, ok bool) {
	name, rest, found := strings.Cut(strings.TrimSpace(line), "=")
	name, rest = strings.ToLower(strings.TrimSpace(name)), strings.TrimSpace(rest)
	if !found || name == "" || name[0] == '#' || len(rest) < 2 || rest[0] != '\'' || rest[len(rest)-1] != '\'' {
		return "", "", false
	}
	return name, strings.NewReplacer(`\\`, `\`, `''`, `'`, `\'`, `'`).Replace(rest[1 : len(rest)-1]), true
}

// settings renders the durable copy as live settings. An upstream of an epoch that this node detached from is none.
func (l live) settings(c Config, detached uint64) map[string]string {
	out := map[string]string{
		"primary_conninfo": "", "primary_slot_name": "", "restore_command": "",
		"synchronous_standby_names": l.Sync.SSN(), "wal_retrieve_retry_interval": "100ms",
	}
	if u := l.upstream(detached); u.Name != "" {
		out["primary_conninfo"] = conninfo(c, u, c.Name)
		out["primary_slot_name"] = u.Slot
	}
	return out
}

// upstream is whom the durable copy follows, nobody when that epoch was left for good.
func (l live) upstream(detached uint64) Upstream {
	if l.Upstream.Epoch <= detached {
		return Upstream{}
	}
	return l.Upstream
}

// conninfo is how this node dials u for replication. The password is in a file of Postgres's user.
func conninfo(c Config, u Upstream, application string) string {
	q := pg.QuoteConninfo
	return "host=" + q(u.Host) + " port=" + strconv.Itoa(u.Port) + " user=" + q(c.Replication.Name) +
		" passfile=" + q(c.passFile()) + " application_name=" + q(application) +
		// Without the last, libpq looks for Kerberos tickets first: files and libraries, tens of milliseconds.
		" sslmode=prefer gssencmode=disable"
}

// besides names a connection of this node that is not its stream. No member's name has a slash, so no rule counts it.
func (c Config) besides(purpose string) string { return c.Name + "/" + purpose }

func (i *Instance) autoConf() string { return filepath.Join(i.cfg.DataDir, "postgresql.auto.conf") }

// changedSettings compares postgresql.auto.conf with what shall be there.
func (i *Instance) changedSettings(want map[string]string) (map[string]string, error) {
	content, err := os.ReadFile(i.autoConf())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the live settings: %w", err)
	}
	changed := maps.Clone(want)
	for line := range strings.Lines(string(content)) {
		if name, value, ok := confValue(line); ok && slices.Contains(liveNames(), name) {
			if w := want[name]; w == value {
				delete(changed, name)
			} else {
				changed[name] = w
			}
		}
	}
	return changed, nil
}

// writeAutoConf puts the live settings into a directory's postgresql.auto.conf and keeps the user's other lines, but no
// includes, which could bring in any setting. What Postgres can't read, for which it would refuse the file and with it a
// start or a detach, becomes a comment.
func (i *Instance) writeAutoConf(path string, want map[string]string) error {
	content, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the live settings: %w", err)
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(content)) {
		line = strings.TrimRight(line, "\n")
		switch name := settingOf(line); {
		case slices.Contains(liveNames(), name), isInclude(name):
		case !isReadable(line):
			out.WriteString("# " + line + "\n")
		default:
			out.WriteString(line + "\n")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		out.WriteString(confLine(name, want[name]))
	}
	if bytes.Equal(out.Bytes(), content) {
		return nil
	}
	return i.writeFile(path, out.Bytes())
}

// resolve returns the addresses of a host, which may be one itself.
func resolve(ctx context.Context, host string) ([]string, error) {
	if ip := net.ParseIP(host); ip != nil && ip.IsLoopback() && ip.String() != "127.0.0.1" {
		// The kernel gives connections within the machine the source 127.0.0.1, whatever loopback address they go to.
		return []string{ip.String(), "127.0.0.1"}, nil
	} else if ip != nil {
		return []string{ip.String()}, nil
	}
	addrs, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up the member's host: %w", err)
	}
	return addrs, nil
}

// SlotName is the physical replication slot of the member with that id, for which the name is there to be read by people. A
// slot belongs to a membership: a node that takes the name of a removed one has another, so what still runs of that one asks
// for a slot that is dropped. Slot names have no hyphen and at most 63 bytes, so the name is escaped and cut.
func SlotName(id, node string) string {
	id = strings.ReplaceAll(id, "-", "")
	name := slotPrefix + id[:min(len(id), slotDigits)] + "_" + strings.ReplaceAll(strings.ReplaceAll(node, "_", "__"), "-", "_x")
	return name[:min(len(name), 63)]
}

// slotDigits is how much of an id, which is random, is in the name of a slot.
const (
	slotPrefix = "quorate_"
	slotDigits = 16
)
