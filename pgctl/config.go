package pgctl

import (
	"errors"
	"fmt"
	"maps"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/pgctl/guard"
)

// ErrConfig says that a Config can't be used; the text names the field, its value and the limit.
var ErrConfig = errors.New("postgresql configuration can't be used")

// Credentials are a database role with its password.
type Credentials struct {
	Name     string
	Password string
	// Ask gives the password if Password is empty. It is asked whenever the password is needed, because a node learns it
	// with its cluster; empty: not known yet.
	Ask func() string
}

func (c Credentials) password() string {
	if c.Password == "" && c.Ask != nil {
		return c.Ask()
	}
	return c.Password
}

// Config is what the node file says of the local Postgres.
type Config struct {
	Scope   string // cluster scope, part of cluster_name
	Name    string // node name: application_name towards the primary
	OSUser  string // the OS user Postgres runs as; empty: the agent's own
	BinDir  string // directory of postgres, initdb, pg_basebackup
	DataDir string // PGDATA. Its parent must be writable: a clone is made beside it and renamed
	// StateDir holds hba, ident, configuration, pgpass, log and the durable records, all outside PGDATA.
	StateDir  string
	SocketDir string // unix_socket_directories; made if absent
	Listen    string // listen_addresses
	Port      int

	Superuser   Credentials       // made by Init for people; password may be empty
	Replication Credentials       // made by Init; standbys stream as it
	InitDB      []string          // the user's options of initdb, NAME or NAME=VALUE, which go before those of Init
	Parameters  map[string]string // the user's settings; those that quorate owns are refused
	HBA         []string          // the user's pg_hba lines; empty: DefaultHBA
	// FailoverAfter is the cluster's failover_after, from which L, margin, kill_after and the replication timeouts come.
	FailoverAfter time.Duration
	KillAfter     time.Duration // fencing.kill_after; 0: a fourth of FailoverAfter
}

// AgentRole is the superuser that quorate itself uses, over the unix socket by peer authentication only.
const AgentRole = "quorate"

// DefaultHBA is used when the node file has no lines of its own.
func DefaultHBA() []string {
	return []string{"local all all peer", "host all all samenet scram-sha-256"}
}

// fixedNames are the settings on the command line, and liveNames those in postgresql.auto.conf (DETAILS 25). Nobody else
// sets them.
func fixedNames() []string {
	return []string{"allow_alter_system", "cluster_name", "config_file", "data_directory", "external_pid_file", "hba_file", "hot_standby", "ident_file",
		"listen_addresses", "max_replication_slots", "max_wal_senders", "port", "promote_trigger_file", "recovery_target",
		"recovery_target_action", "recovery_target_inclusive", "recovery_target_lsn", "recovery_target_name", "recovery_target_time",
		"recovery_target_timeline", "recovery_target_xid", "restart_after_crash", "unix_socket_directories", "wal_log_hints"}
}

func liveNames() []string {
	return []string{"primary_conninfo", "primary_slot_name", "restore_command", "synchronous_standby_names", "wal_retrieve_retry_interval"}
}

// OwnedParameters lists the settings that quorate owns and refuses in Config.Parameters, sorted.
func OwnedParameters() []string {
	out := slices.Concat(fixedNames(), liveNames())
	slices.Sort(out)
	return out
}

// Validate returns ErrConfig with the first thing that is wrong.
func (c Config) Validate() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{ErrConfig}, args...)...)
	}
	for _, p := range []struct{ name, value string }{
		{"bin_dir", c.BinDir}, {"data_dir", c.DataDir}, {"state directory", c.StateDir}, {"socket directory", c.SocketDir},
	} {
		// The characters that would need quoting in one of the places where these paths appear.
		if !filepath.IsAbs(p.value) || strings.ContainsAny(p.value, "'\"\\\n,") {
			return bad("%s %q must be an absolute path without quotes, commas, backslashes and line breaks", p.name, p.value)
		}
	}
	if within(c.DataDir, c.StateDir) {
		return bad("the state directory %s must not be inside data_dir %s, which clones replace", c.StateDir, c.DataDir)
	}
	if n := len(c.SocketPath()); n > 107 {
		return bad("socket path %s has %d bytes, the limit is 107; choose a shorter directory", c.SocketPath(), n)
	}
	if !regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`).MatchString(c.Name) {
		return bad("node name %q must match [a-z][a-z0-9_-]{0,62}: synchronous_standby_names ignores case", c.Name)
	}
	if c.Port < 1 || c.Port > 65535 {
		return bad("port %d must be 1 to 65535", c.Port)
	}
	if c.FailoverAfter < 500*time.Millisecond || c.FailoverAfter > time.Minute {
		return bad("failover_after %s must be 0.5s to 60s", c.FailoverAfter)
	}
	if c.Replication.Name == "" || c.Replication.Password == "" && c.Replication.Ask == nil {
		return bad("the replication role needs a name and a password")
	}
	if c.Replication.Name == AgentRole || c.Superuser.Name == AgentRole || c.Superuser.Name == c.Replication.Name {
		return bad("roles %q (superuser), %q (replication) and %q (quorate's own) must differ", c.Superuser.Name, c.Replication.Name, AgentRole)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Parameters)) {
		if slices.Contains(OwnedParameters(), strings.ToLower(name)) {
			return bad("parameter %s is set by quorate itself; remove it", name)
		}
		if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`).MatchString(name) || strings.ContainsAny(c.Parameters[name], "\n\x00") {
			return bad("parameter %q = %q is not a setting", name, c.Parameters[name])
		}
	}
	for _, line := range c.HBA {
		if strings.ContainsAny(line, "\n\x00") {
			return bad("pg_hba line %q must be one line", line)
		}
		if strings.HasSuffix(strings.TrimRight(line, "\r"), `\`) {
			return bad("pg_hba line %q must not end in a backslash, which joins it with the next", line)
		}
	}
	return nil
}

// within reports whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// SocketPath is the unix socket of the local server.
func (c Config) SocketPath() string {
	return filepath.Join(c.SocketDir, ".s.PGSQL."+strconv.Itoa(c.Port))
}

// The timings that follow from failover_after (DESIGN §4, DETAILS 9, 13, 28).
func (c Config) leaseLength() time.Duration { return c.FailoverAfter * 8 / 10 }

func (c Config) margin() time.Duration { return max(50*time.Millisecond, c.leaseLength()/16) }

func (c Config) killAfter() time.Duration {
	if c.KillAfter > 0 {
		return c.KillAfter
	}
	return c.FailoverAfter / 4
}

func (c Config) walTimeout() time.Duration { return max(10*time.Second, 10*c.FailoverAfter) }

// The files in StateDir. Those that Postgres reads or writes are in a directory of its own user.
func (c Config) own(name string) string { return filepath.Join(c.StateDir, name) }

func (c Config) pgFile(name string) string { return filepath.Join(c.StateDir, "postgres", name) }

func (c Config) hbaFile() string { return c.pgFile("pg_hba.conf") }

func (c Config) identFile() string { return c.pgFile("pg_ident.conf") }

func (c Config) confFile() string { return c.pgFile("postgresql.conf") }

func (c Config) passFile() string { return c.pgFile("pgpass") }

// LogFile is where the server's standard error goes.
func (c Config) LogFile() string { return c.pgFile("postgres.log") }

// credential looks the OS user up. It is nil when Postgres runs as the agent's own user.
func (c Config) credential() (*guard.Credential, error) {
	self, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("look up the agent's own user: %w", err)
	}
	if self.Uid != "0" {
		if c.OSUser != "" && c.OSUser != self.Username {
			return nil, fmt.Errorf("%w: os_user is %q and the agent runs as %q; only root can run Postgres as somebody else", ErrConfig, c.OSUser, self.Username)
		}
		return nil, nil
	}
	if c.OSUser == "" || c.OSUser == "root" {
		return nil, fmt.Errorf("%w: Postgres does not run as root; set os_user, such as postgres", ErrConfig)
	}
	u, err := user.Lookup(c.OSUser)
	if err != nil {
		return nil, fmt.Errorf("look up os_user %q: %w", c.OSUser, err)
	}
	return credentialOf(u)
}

func credentialOf(u *user.User) (*guard.Credential, error) {
	groups, err := u.GroupIds()
	if err != nil {
		return nil, fmt.Errorf("look up the groups of %q: %w", u.Username, err)
	}
	out := &guard.Credential{}
	for _, g := range groups {
		n, err := strconv.ParseUint(g, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read group id %q: %w", g, err)
		}
		out.Groups = append(out.Groups, uint32(n))
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(errUID, errGID); err != nil {
		return nil, fmt.Errorf("read the ids of %q: %w", u.Username, err)
	}
	out.UID, out.GID = uint32(uid), uint32(gid)
	return out, nil
}
