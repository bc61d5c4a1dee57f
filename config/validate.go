package config

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

// nodeName is what synchronous_standby_names can hold without quoting games; Postgres compares it case-insensitively.
var nodeName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

var parameterName = regexp.MustCompile(`^[a-z_][a-z0-9_$]*(\.[a-z_][a-z0-9_$]*)*$`)

// The limits of failover_after: below, a loaded machine loses its lease by its own scheduling; above, nothing is gained.
const (
	minFailoverAfter = 500 * time.Millisecond
	maxFailoverAfter = 60 * time.Second
)

// line is where path, or else the section that it would be in, stands; 0 if nowhere.
func (r *reader) line(path string) int {
	for {
		if p, ok := r.seen[path]; ok {
			return p.line
		}
		at := strings.LastIndexByte(path, '.')
		if at < 0 {
			return 0
		}
		path = path[:at]
	}
}

// where says for a message where the value of path comes from.
func (r *reader) where(path string) string {
	switch p, ok := r.seen[path]; {
	case !ok:
		return " (the default)"
	case p.line == 0 && strings.HasPrefix(p.as, envPrefix):
		return fmt.Sprintf(" (%s)", p.as)
	case p.line == 0:
		return ""
	default:
		return fmt.Sprintf(" (line %d)", p.line)
	}
}

// bad complains of the value of path.
func (r *reader) bad(path, format string, args ...any) {
	f := Finding{Line: r.line(path), Key: r.name(path), Text: fmt.Sprintf(format, args...)}
	if p, ok := r.seen[path]; ok {
		f.Key = p.as
	}
	r.errs = append(r.errs, f)
}

// check checks every key and the keys against each other.
func (r *reader) check(c Config) {
	if !nodeName.MatchString(c.Name) {
		r.bad("name", "%q: a node name is a lower-case letter followed by at most 62 of a-z, 0-9, _ and -%s", c.Name, instead(c.Name))
	}
	if c.Scope == "" || strings.ContainsAny(c.Scope, "/ \t\n\"'\\") {
		r.bad("scope", "%q: give the cluster a name without spaces, quotes and slashes", c.Scope)
	}
	if c.Cluster.Role != fsm.RoleData && c.Cluster.Role != fsm.RoleWitness {
		r.bad("cluster.role", "%q: it is data or witness", c.Cluster.Role)
	}
	if !slices.Contains([]string{"trace", "debug", "info", "warn", "error", "off"}, strings.ToLower(c.Log.Level)) {
		r.bad("log.level", "%q: it is trace, debug, info, warn, error or off", c.Log.Level)
	}
	if c.Log.Type != "plain" && c.Log.Type != "json" {
		r.bad("log.type", "%q: it is plain or json", c.Log.Type)
	}
	if !filepath.IsAbs(c.Cluster.DataDir) {
		r.bad("cluster.data_dir", "%q is not an absolute path", c.Cluster.DataDir)
	}
	r.checkAddresses(c)
	r.checkRestAPI(c.RestAPI)
	r.checkSecret(c)
	fa := time.Duration(c.Bootstrap.DCS.FailoverAfter)
	if ka := time.Duration(c.Fencing.KillAfter); ka < 0 || ka > fa {
		r.bad("fencing.kill_after", "%s is not between 0 and failover_after, %s%s", ka, fa, r.where(dcs+".failover_after"))
	}
	r.checkShared(c.Bootstrap.DCS)
	if c.Cluster.Role == fsm.RoleData {
		r.checkPostgres(c)
	}
}

// instead proposes a node name that may be used.
func instead(name string) string {
	name = strings.Map(func(c rune) rune {
		if c == '.' || c == ' ' {
			return '-'
		}
		return c
	}, strings.ToLower(name))
	if !nodeName.MatchString(name) {
		return ""
	}
	return fmt.Sprintf("; %q would do", name)
}

// checkAddresses finds a node that is not among its peers, and two servers of it on one port.
func (r *reader) checkAddresses(c Config) {
	found := len(c.Cluster.Peers) == 0
	seen := map[string]bool{}
	for _, p := range c.Cluster.Peers {
		if seen[p] {
			r.bad("cluster.peers", "%s is named twice", p)
		}
		seen[p] = true
		found = found || p == c.Cluster.ConnectAddress
	}
	if !found {
		own := "cluster.connect_address"
		if _, given := r.seen[own]; !given {
			own = "cluster.listen"
		}
		r.bad("cluster.peers", "%s do not contain this node's own address %s%s",
			strings.Join(c.Cluster.Peers, ", "), c.Cluster.ConnectAddress, r.where(own))
	}
	all := []struct{ key, addr string }{
		{"cluster.listen", c.Cluster.Listen}, {"restapi.listen", c.RestAPI.Listen}, {"postgresql.listen", c.PostgreSQL.Listen},
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if overlap(a.addr, b.addr) {
				r.bad(a.key, "%s is the port of %s%s as well, %s", a.addr, b.key, r.where(b.key), b.addr)
			}
		}
	}
}

// overlap tells whether two servers can't both listen.
func overlap(a, b string) bool {
	ha, pa, errA := net.SplitHostPort(a)
	hb, pb, errB := net.SplitHostPort(b)
	if errA != nil || errB != nil || pa != pb {
		return false
	}
	for _, x := range strings.Split(ha, ",") {
		for _, y := range strings.Split(hb, ",") {
			if x == y || wildcard(x) || wildcard(y) {
				return true
			}
		}
	}
	return false
}

func hasSecret(c Config) bool { return c.Cluster.Secret != "" || c.Cluster.SecretFile != "" }

func (r *reader) checkSecret(c Config) {
	t := c.Cluster.TLS
	if some, all := t != (TLS{}), t.CertFile != "" && t.KeyFile != "" && t.CAFile != ""; some && !all {
		r.bad("cluster.tls", "it needs cert_file, key_file and ca_file")
	} else if some && !hasSecret(c) && len(c.Cluster.Peers) > 0 {
		r.bad("cluster.tls", "it is given without cluster.secret_file: the key of gossip and the admin token come from the secret")
	}
	if c.Cluster.Secret != "" && c.Cluster.SecretFile != "" {
		r.bad("cluster.secret", "cluster.secret_file%s is given as well, %s: keep one",
			r.where("cluster.secret_file"), c.Cluster.SecretFile)
		return
	}
	// A node that names no peers is in no cluster before init makes a secret, or join brings one.
	if hasSecret(c) || len(c.Cluster.Peers) == 0 || c.Cluster.Listen == "" || loopback(hostOf(c.Cluster.Listen)) {
		return
	}
	r.bad("cluster.secret_file", "it is missing, and cluster.listen%s, %s, is not loopback: "+
		"without a secret anyone who reaches the port is a member. Make one, the same on every node (openssl rand -hex 32), readable by quorate only, in %s or in a file that is named:\n%s",
		r.where("cluster.listen"), c.Cluster.Listen, filepath.Join(c.Cluster.DataDir, SecretName), block(&c))
}

// checkShared checks the shared configuration.
func (r *reader) checkShared(d DCS) {
	if fa := time.Duration(d.FailoverAfter); fa < minFailoverAfter || fa > maxFailoverAfter {
		r.bad(dcs+".failover_after", "%s: it is between %s and %s", fa, minFailoverAfter, maxFailoverAfter)
	}
	if d.Durability != fsm.DurabilityQuorum && d.Durability != fsm.DurabilityAsync {
		r.bad(dcs+".durability", "%q: it is quorum or async", d.Durability)
	}
	if _, given := r.seen[dcs+".durability"]; !given && r.patroni {
		r.warn(r.line(dcs), dcs+".durability", "quorum, which is the default: a commit waits until half of the data nodes have it, "+
			"at least 2. Patroni without synchronous_mode does not wait, and can lose commits in a failover; durability: async is that")
	}
	if d.MaximumLag < 0 {
		r.bad(dcs+".maximum_lag_on_failover", "%d: it is bytes, at least 0", d.MaximumLag)
	}
	if d.Strict && d.Durability == fsm.DurabilityAsync {
		r.bad(dcs+".strict", "true contradicts durability: async%s: commits can't wait for copies that nobody asks for",
			r.where(dcs+".durability"))
	}
	r.checkParameters(dcs+".postgresql.parameters", d.PostgreSQL.Parameters)
	r.checkHBA(dcs+".postgresql.pg_hba", d.PostgreSQL.PgHBA)
}

func (r *reader) checkPostgres(c Config) {
	p := c.PostgreSQL
	if !filepath.IsAbs(p.DataDir) {
		r.bad("postgresql.data_dir", "%q is not an absolute path", p.DataDir)
	} else if inside(c.Cluster.DataDir, p.DataDir) {
		r.bad("cluster.data_dir", "%s lies inside postgresql.data_dir %s%s: a new copy of the database would take it away",
			c.Cluster.DataDir, p.DataDir, r.where("postgresql.data_dir"))
	}
	reached := slices.ContainsFunc(strings.Split(hostOf(p.Listen), ","), func(host string) bool { return !loopback(host) })
	if reached && !hasSecret(c) && len(c.Cluster.Peers) > 0 && p.Authentication.Replication.Password == "" {
		r.bad("postgresql.authentication.replication.password", "it is missing, there is no secret to make one of, "+
			"and postgresql.listen%s, %s, is not loopback: give a password, or a cluster.secret_file", r.where("postgresql.listen"), p.Listen)
	}
	super, repl := p.Authentication.Superuser.Username, p.Authentication.Replication.Username
	if super == repl {
		r.bad("postgresql.authentication.replication.username", "%s is the superuser%s as well: give replication a role of its own",
			repl, r.where("postgresql.authentication.superuser.username"))
	}
	for _, role := range []struct{ key, name string }{{"superuser", super}, {"replication", repl}} {
		if role.name == "quorate" || role.name == "" {
			r.bad("postgresql.authentication."+role.key+".username", "%q: give it a name, and not quorate, which is the daemon's own", role.name)
		}
	}
	for _, option := range c.Bootstrap.InitDB {
		name, value, _ := strings.Cut(option, "=")
		if !slices.Contains(initdbArguments, name) || strings.ContainsAny(value, "\n\r\x00") {
			r.bad("bootstrap.initdb", "the option %q is not passed on to initdb; these are: data-checksums, %s",
				name, strings.Join(initdbArguments, ", "))
		}
	}
	r.checkParameters("postgresql.parameters", p.Parameters)
	r.checkHBA("postgresql.pg_hba", p.PgHBA)
}

func inside(dir, parent string) bool {
	rel, err := filepath.Rel(parent, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// counted are the parameters that a standby must have at least as high as its primary, with their least values. They are
// compared as numbers, so they must be ones.
func counted() map[string]int {
	return map[string]int{"max_connections": 1, "max_prepared_transactions": 0, "max_locks_per_transaction": 10, "max_worker_processes": 0}
}

const maxCounted = 262143 // Postgres's own limit for connections, backends and workers

func (r *reader) checkParameters(path string, set map[string]string) {
	number := func(name string) (int, bool) {
		n, err := strconv.Atoi(set[name])
		return n, err == nil
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		at := join(path, name)
		switch least, isCount := counted()[name]; {
		case slices.Contains(OwnedParameters(), name):
			r.bad(at, "%s was given, and the parameter %s is set by quorate itself%s: remove it", quoted(at, set[name]), name, owned(name))
		case !parameterName.MatchString(name) || strings.ContainsAny(set[name], "\n\r\x00"):
			r.bad(at, "%q = %s is not a setting on one line", name, quoted(at, set[name]))
		case isCount:
			if n, ok := number(name); !ok || n < least || n > maxCounted {
				r.bad(at, "%q: it is a whole number from %d to %d", set[name], least, maxCounted)
			}
		}
	}
	limit, limited := number("max_connections")
	reserved, said := 0, ""
	for _, name := range []string{"superuser_reserved_connections", "reserved_connections"} {
		if n, given := number(name); given {
			reserved += n
			said += fmt.Sprintf(" and %s %d%s", name, n, r.where(join(path, name)))
		}
	}
	if limited && reserved >= limit {
		r.bad(join(path, "max_connections"), "%d leaves nothing beside%s: Postgres would not start",
			limit, strings.TrimPrefix(said, " and"))
	}
}

// owned says how quorate sets a parameter of which another value was asked for.
func owned(name string) string {
	switch name {
	case "wal_level":
		return " to replica; logical decoding is not supported"
	case "hot_standby":
		return " to on"
	case "max_wal_senders", "max_replication_slots":
		return fmt.Sprintf(" to %d", ownSenders)
	case "synchronous_standby_names":
		return " by durability"
	case "listen_addresses", "port":
		return " from postgresql.listen"
	}
	return ""
}

// checkHBA looks for what would keep Postgres from starting at all; the fine points are checked by Postgres itself.
func (r *reader) checkHBA(path string, lines []string) {
	kinds := []string{"local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc"}
	for n, line := range lines {
		fields := strings.Fields(line)
		shown := strings.Join(fields[:min(5, len(fields))], " ") // The options behind the method may hold a password.
		switch {
		case len(fields) == 0 || strings.HasPrefix(fields[0], "#"):
		case strings.ContainsAny(line, "\n\r\x00"):
			r.bad(path, "entry %d %q is not one line", n+1, shown)
		case !slices.Contains(kinds, fields[0]):
			r.bad(path, "entry %d %q begins with none of %s", n+1, shown, strings.Join(kinds, ", "))
		case len(fields) < 4 || fields[0] != "local" && len(fields) < 5:
			r.bad(path, "entry %d %q lacks fields: TYPE DATABASE USER [ADDRESS] METHOD", n+1, shown)
		}
	}
}

// Timing are the durations that follow from failover_after (DESIGN §4).
type Timing struct {
	FailoverAfter time.Duration
	Beat          time.Duration // between two beats
	Lease         time.Duration // length of a vouch
	Margin        time.Duration // before its end the primary is already frozen
}

// TimingOf derives the timing from failover_after.
func TimingOf(failoverAfter time.Duration) Timing {
	lease := failoverAfter * 8 / 10
	return Timing{FailoverAfter: failoverAfter, Beat: failoverAfter / 8, Lease: lease, Margin: max(50*time.Millisecond, lease/16)}
}
