// Package config is the node file: one struct, its defaults, a strict decoder and a Validate that checks fields against
// each other and names both values.
//
// It must never touch the network or Postgres, and must never guess: a key it does not know is an error with its line.
package config

import (
	"fmt"
	"os"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Config is quorate.yml. Where the idea is Patroni's, the key is Patroni's.
type Config struct {
	Scope      string     `yaml:"scope"` // cluster name
	Name       string     `yaml:"name"`  // node name, also its application_name: [a-z][a-z0-9_-]{0,62}
	Cluster    Cluster    `yaml:"cluster"`
	RestAPI    RestAPI    `yaml:"restapi"`
	PostgreSQL PostgreSQL `yaml:"postgresql"`
	Bootstrap  Bootstrap  `yaml:"bootstrap"`
	Fencing    Fencing    `yaml:"fencing"`
	Tags       Tags       `yaml:"tags"`
	Log        Log        `yaml:"log"`
}

// Cluster is the node's place among its peers.
type Cluster struct {
	Listen         string    `yaml:"listen"`          // host:port of Raft, beats and RPC
	ConnectAddress string    `yaml:"connect_address"` // as peers dial it; default: listen
	DataDir        string    `yaml:"data_dir"`        // Raft, identity, promises, sockets; never inside the Postgres data directory
	Peers          Addresses `yaml:"peers"`           // all initial nodes, the same list on each; the first bootstraps
	Secret         string    `yaml:"secret"`          // 32 bytes, hex or base64; rather use secret_file
	SecretFile     string    `yaml:"secret_file"`     // one secret a line: the first is used, all are accepted; read again when it changes
	TLS            TLS       `yaml:"tls"`
	Role           fsm.Role  `yaml:"role"` // data (default) or witness
}

// TLS is a certificate of an own PKI, in place of one that is derived from the secret: all three files or none, on all nodes
// or none. They are read again when they change.
type TLS struct {
	CertFile string `yaml:"cert_file"` // with the node's name as a DNS name, and what is between it and the CA
	KeyFile  string `yaml:"key_file"`
	CAFile   string `yaml:"ca_file"` // the CAs of all nodes
}

// RestAPI is the HTTP address.
type RestAPI struct {
	Listen         string `yaml:"listen"`
	ConnectAddress string `yaml:"connect_address"`
}

// PostgreSQL is the local server.
type PostgreSQL struct {
	Listen         string            `yaml:"listen"`
	ConnectAddress string            `yaml:"connect_address"`
	DataDir        string            `yaml:"data_dir"`
	BinDir         string            `yaml:"bin_dir"`
	OSUser         string            `yaml:"os_user"` // whom Postgres runs as when quorate is root; default postgres
	Authentication Authentication    `yaml:"authentication"`
	Parameters     map[string]string `yaml:"parameters"`
	PgHBA          []string          `yaml:"pg_hba"`
}

// Authentication names the roles quorate uses over the network. An empty password is made by the cluster, once and for
// all its nodes.
type Authentication struct {
	Superuser   Role `yaml:"superuser"`
	Replication Role `yaml:"replication"`
}

// Role is a database role.
type Role struct {
	Username string `yaml:"username"`
	Password string `yaml:"password"`
}

// Bootstrap is read once, by the node that makes the cluster.
type Bootstrap struct {
	DCS DCS `yaml:"dcs"`
}

// DCS becomes the replicated configuration.
type DCS struct {
	FailoverAfter Duration       `yaml:"failover_after" json:"failover_after"`
	Durability    fsm.Durability `yaml:"durability" json:"durability"`
	Strict        bool           `yaml:"strict" json:"strict,omitempty"`
	MaximumLag    int64          `yaml:"maximum_lag_on_failover" json:"maximum_lag_on_failover"` // bytes, for durability async
	PostgreSQL    DCSPostgreSQL  `yaml:"postgresql" json:"postgresql,omitzero"`
}

// DCSPostgreSQL are server parameters that hold on every node.
type DCSPostgreSQL struct {
	Parameters map[string]string `yaml:"parameters" json:"parameters,omitempty"`
	PgHBA      []string          `yaml:"pg_hba" json:"pg_hba,omitempty"` // for nodes without lines of their own
}

// Fencing says how the guard makes Postgres unable to commit.
type Fencing struct {
	Cgroup    string   `yaml:"cgroup"`     // below the cgroup v2 mount; default quorate/<scope>-<name>
	Signals   bool     `yaml:"signals"`    // do not use cgroups even where they could be
	KillAfter Duration `yaml:"kill_after"` // how long frozen before killed; default failover_after/4
}

// Tags are the node's properties in elections.
type Tags struct {
	NoFailover       bool `yaml:"nofailover"`
	FailoverPriority int  `yaml:"failover_priority"`
}

// Log is where messages of this level and above go: standard error.
type Log struct {
	Level string `yaml:"level"`
}

// Addresses is a list of host:port.
type Addresses []string

// UnmarshalYAML reads a list of strings. In a flow mapping, cluster: { peers: [10.0.0.1:7400] }, the decoder takes an
// unquoted host:port for a mapping with one entry; nobody means that here.
func (a *Addresses) UnmarshalYAML(decode func(any) error) error {
	var items []any
	if err := decode(&items); err != nil {
		return err
	}
	*a = nil
	for _, item := range items {
		entry, mapping := item.(map[string]any)
		if !mapping {
			*a = append(*a, fmt.Sprint(item))
			continue
		}
		if len(entry) != 1 {
			return fmt.Errorf("%v is not host:port", entry)
		}
		for host, port := range entry {
			*a = append(*a, fmt.Sprintf("%s:%v", host, port))
		}
	}
	return nil
}

// Duration is a time.Duration written as "1s" or "500ms".
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	if err != nil {
		return fmt.Errorf("%q is not a duration like 1s or 500ms", b)
	}
	*d = Duration(v)
	return nil
}

// MarshalText writes it as UnmarshalText reads it.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// Default returns the values of keys that are not given.
func Default() Config {
	return Config{
		Cluster: Cluster{DataDir: "/var/lib/quorate", Role: fsm.RoleData},
		PostgreSQL: PostgreSQL{
			OSUser: "postgres",
			Authentication: Authentication{
				Superuser:   Role{Username: "postgres"},
				Replication: Role{Username: "replicator"},
			},
		},
		Bootstrap: Bootstrap{DCS: DCS{FailoverAfter: Duration(time.Second), Durability: fsm.DurabilityQuorum, MaximumLag: 1 << 20}},
		Log:       Log{Level: "info"},
	}
}

// Load reads, decodes and validates the node file at path, with QUORATE_<SECTION>_<KEY> from env over it. env is what
// os.Environ returns. The error names file, line and key.
func Load(path string, env []string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read node file: %w", err)
	}
	c, err := Decode(b, env)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Decode is Load without the file.
func Decode(b []byte, env []string) (Config, error) {
	c := Default()
	if err := decodeStrict(b, &c); err != nil {
		return Config{}, err
	}
	if err := overlay(&c, env); err != nil {
		return Config{}, err
	}
	c.complete()
	if err := c.Validate(); err != nil {
		return Config{}, err
	}
	return c, nil
}

// complete fills what follows from other keys.
func (c *Config) complete() {
	for _, set := range []*map[string]string{&c.PostgreSQL.Parameters, &c.Bootstrap.DCS.PostgreSQL.Parameters} {
		*set = lowered(*set)
	}
	if c.Cluster.ConnectAddress == "" {
		c.Cluster.ConnectAddress = c.Cluster.Listen
	}
	if c.RestAPI.ConnectAddress == "" {
		c.RestAPI.ConnectAddress = c.RestAPI.Listen
	}
	if c.PostgreSQL.ConnectAddress == "" {
		c.PostgreSQL.ConnectAddress = c.PostgreSQL.Listen
	}
	if c.Fencing.Cgroup == "" {
		c.Fencing.Cgroup = "quorate/" + c.Scope + "-" + c.Name
	}
	if c.Fencing.KillAfter == 0 {
		c.Fencing.KillAfter = c.Bootstrap.DCS.FailoverAfter / 4
	}
}
