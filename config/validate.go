package config

import (
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/quorate/quorate/fsm"
)

// nodeName is what synchronous_standby_names can hold without quoting games; Postgres compares it case-insensitively.
var nodeName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// The limits of failover_after: below, a loaded machine loses its lease by its own scheduling; above, nothing is gained.
const (
	minFailoverAfter = 500 * time.Millisecond
	maxFailoverAfter = 60 * time.Second
)

// Validate checks every key and the keys against each other, and returns all that is wrong at once.
func (c Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !nodeName.MatchString(c.Name) {
		bad("name %q: a node name is a lower-case letter followed by at most 62 of a-z, 0-9, _ and -", c.Name)
	}
	if c.Scope == "" || strings.ContainsAny(c.Scope, "/ \t\n\"'\\") {
		bad("scope %q: give the cluster a name without spaces, quotes and slashes", c.Scope)
	}
	if c.Cluster.Role != fsm.RoleData && c.Cluster.Role != fsm.RoleWitness {
		bad("cluster.role %q: it is data or witness", c.Cluster.Role)
	}
	errs = append(errs, c.validateAddresses()...)
	errs = append(errs, c.validateSecret()...)
	errs = append(errs, c.validateTiming()...)
	if c.Cluster.Role == fsm.RoleData {
		errs = append(errs, c.validatePostgres()...)
	}
	return errors.Join(errs...)
}

func (c Config) validateAddresses() []error {
	var errs []error
	check := func(key, listen, connect string) {
		if err := hostPort(key+".listen", listen); err != nil {
			errs = append(errs, err)
			return
		}
		host, _, _ := net.SplitHostPort(connect)
		if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
			errs = append(errs, fmt.Errorf("%s.listen %q is a wildcard: set %s.connect_address to the address other nodes dial", key, listen, key))
		}
	}
	check("cluster", c.Cluster.Listen, c.Cluster.ConnectAddress)
	check("restapi", c.RestAPI.Listen, c.RestAPI.ConnectAddress)
	if c.Cluster.Role == fsm.RoleData {
		check("postgresql", c.PostgreSQL.Listen, c.PostgreSQL.ConnectAddress)
	}
	found := len(c.Cluster.Peers) == 0
	seen := map[string]bool{}
	for _, p := range c.Cluster.Peers {
		if err := hostPort("cluster.peers", p); err != nil {
			errs = append(errs, err)
		}
		if seen[p] {
			errs = append(errs, fmt.Errorf("cluster.peers names %s twice", p))
		}
		seen[p] = true
		found = found || p == c.Cluster.ConnectAddress
	}
	if !found {
		errs = append(errs, fmt.Errorf("cluster.peers %v does not contain this node's own address %s", c.Cluster.Peers, c.Cluster.ConnectAddress))
	}
	return errs
}

func hostPort(key, addr string) error {
	if addr == "" {
		return fmt.Errorf("%s is missing: give host:port", key)
	}
	if _, port, err := net.SplitHostPort(addr); err != nil || port == "" {
		return fmt.Errorf("%s %q is not host:port", key, addr)
	}
	return nil
}

func (c Config) validateSecret() []error {
	t := c.Cluster.TLS
	if some, all := t != (TLS{}), t.CertFile != "" && t.KeyFile != "" && t.CAFile != ""; some && !all {
		return []error{errors.New("cluster.tls needs cert_file, key_file and ca_file")}
	} else if some && c.Cluster.Secret == "" && c.Cluster.SecretFile == "" {
		return []error{errors.New("cluster.tls is given without cluster.secret_file: the key of gossip and the admin token come from the secret")}
	}
	if c.Cluster.Secret != "" && c.Cluster.SecretFile != "" {
		return []error{errors.New("cluster.secret and cluster.secret_file are both given: keep one")}
	}
	if c.Cluster.Secret != "" || c.Cluster.SecretFile != "" {
		return nil
	}
	host, _, _ := net.SplitHostPort(c.Cluster.Listen)
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return []error{fmt.Errorf("cluster.listen %q is not loopback and there is no cluster.secret_file: without a secret anyone who reaches the port is a member", c.Cluster.Listen)}
	}
	return nil
}

func (c Config) validateTiming() []error {
	var errs []error
	fa := time.Duration(c.Bootstrap.DCS.FailoverAfter)
	if ka := time.Duration(c.Fencing.KillAfter); ka < 0 || ka > fa {
		errs = append(errs, fmt.Errorf("fencing.kill_after %s is not between 0 and failover_after %s", ka, fa))
	}
	if err := c.Bootstrap.DCS.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("bootstrap.dcs: %w", err))
	}
	return errs
}

func (c Config) validatePostgres() []error {
	var errs []error
	if !filepath.IsAbs(c.PostgreSQL.DataDir) {
		errs = append(errs, fmt.Errorf("postgresql.data_dir %q is not an absolute path", c.PostgreSQL.DataDir))
	}
	if !filepath.IsAbs(c.Cluster.DataDir) {
		errs = append(errs, fmt.Errorf("cluster.data_dir %q is not an absolute path", c.Cluster.DataDir))
	}
	if inside(c.Cluster.DataDir, c.PostgreSQL.DataDir) {
		errs = append(errs, fmt.Errorf("cluster.data_dir %s lies inside postgresql.data_dir %s: a new copy of the database would take it away", c.Cluster.DataDir, c.PostgreSQL.DataDir))
	}
	errs = append(errs, validateParameters(c.PostgreSQL.Parameters)...)
	errs = append(errs, validateHBA(c.PostgreSQL.PgHBA)...)
	return errs
}

func inside(dir, parent string) bool {
	rel, err := filepath.Rel(parent, dir)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
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
