// Package config is the node file: one struct, its defaults, a strict decoder that knows Patroni's keys as well, and checks
// of the fields against each other that name both values and their lines.
//
// It must never touch the network or Postgres, and must never guess: a key it does not know is an error with its line.
package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
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
	// Warnings are what the file says that is not followed, one for each key. Whoever starts the node shows them.
	Warnings []Finding `yaml:"-"`
}

// Cluster is the node's place among its peers.
type Cluster struct {
	Listen         string    `yaml:"listen"`          // host:port of Raft, beats and RPC; see placeCluster for the default
	ConnectAddress string    `yaml:"connect_address"` // as peers dial it; default: listen
	DataDir        string    `yaml:"data_dir"`        // Raft, identity, promises, sockets; never inside the Postgres data directory
	Peers          Addresses `yaml:"peers"`           // all initial nodes, the same list on each; the first bootstraps
	Secret         string    `yaml:"secret"`          // 32 bytes, hex or base64; rather use secret_file
	// SecretFile holds one secret a line: the first is used, all are accepted. It is read again when it changes. Default:
	// SecretName in data_dir, if that exists.
	SecretFile string   `yaml:"secret_file"`
	TLS        TLS      `yaml:"tls"`
	Role       fsm.Role `yaml:"role"`    // data (default) or witness
	NoVote     bool     `yaml:"no_vote"` // a standby, or a spare witness, that never votes
}

// TLS is a certificate of an own PKI, in place of one that is derived from the secret: all three files or none, on all nodes
// or none. They are read again when they change.
type TLS struct {
	CertFile string `yaml:"cert_file"` // with the node's name as a DNS name, and what is between it and the CA
	KeyFile  string `yaml:"key_file"`
	CAFile   string `yaml:"ca_file"` // the CAs of all nodes
}

// RestAPI is the HTTP address and who may change something through it.
type RestAPI struct {
	Listen         string    `yaml:"listen"`
	ConnectAddress string    `yaml:"connect_address"`
	Authentication HTTPBasic `yaml:"authentication"`
	CertFile       string    `yaml:"certfile"`      // with keyfile: HTTPS; read again when the files change
	KeyFile        string    `yaml:"keyfile"`       // not encrypted
	CAFile         string    `yaml:"cafile"`        // of client certificates, and of the other nodes' certificates
	VerifyClient   string    `yaml:"verify_client"` // none (default), optional (for changes) or required (for all)
	AllowList      AllowList `yaml:"allowlist"`     // addresses and networks that changes are taken from; empty: any
}

// PostgreSQL is the local server.
type PostgreSQL struct {
	Listen         string            `yaml:"listen"` // several addresses stand before one port: [0.0.0.0,::1]:5432
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
	DCS    DCS      `yaml:"dcs"`
	InitDB []string `yaml:"initdb"` // options of initdb, NAME or NAME=VALUE
	// SaysFailoverAfter: the file has dcs.failover_after; else it is the default.
	SaysFailoverAfter bool `yaml:"-"`
}

// DCS becomes the replicated configuration.
type DCS struct {
	FailoverAfter Duration       `yaml:"failover_after" json:"failover_after"`
	Durability    fsm.Durability `yaml:"durability" json:"durability"`
	Strict        bool           `yaml:"strict" json:"strict,omitempty"`
	MaximumLag    int64          `yaml:"maximum_lag_on_failover" json:"maximum_lag_on_failover"` // bytes, for durability async
	PostgreSQL    DCSPostgreSQL  `yaml:"postgresql" json:"postgresql,omitzero"`
	// Warnings are what the document said that is not followed. They are no part of it.
	Warnings []Finding `yaml:"-" json:"-"`
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
	KillAfter Duration `yaml:"kill_after"` // how long frozen before killed; 0: a fourth of the cluster's failover_after
}

// Tags are the node's properties in elections.
type Tags struct {
	NoFailover       bool `yaml:"nofailover"`
	FailoverPriority int  `yaml:"failover_priority"` // 1 as any other node's; 0 is NoFailover
	NoLoadBalance    bool `yaml:"noloadbalance"`     // GET /replica is never 200
	// Other are shown and matched by the health paths, and mean nothing to quorate.
	Other map[string]any `yaml:",inline"`
}

// Log is where messages of this level and above go: standard error.
type Log struct {
	Level string `yaml:"level"`
	Type  string `yaml:"type"` // plain or json
}

// Addresses is a list of host:port.
type Addresses []string

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
		Tags:      Tags{FailoverPriority: 1},
		Log:       Log{Level: "info", Type: "plain"},
	}
}

// SecretName is the file in cluster.data_dir that holds the secret where the node file names none.
const SecretName = "secret"

// Load reads, decodes and validates the node file at path, with QUORATE_<SECTION>_<KEY> from env over it. env is what
// os.Environ returns. An Invalid error names file, line and key of everything that is wrong; the Config has its Warnings
// with it.
func Load(path string, env []string) (Config, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read node file: %w", err)
	}
	c, err := decodeNode(b, env, func(file string) bool {
		info, err := os.Stat(file)
		return err == nil && info.Mode().IsRegular()
	})
	for i := range c.Warnings {
		c.Warnings[i].File = path
	}
	if v, ok := err.(Invalid); ok {
		for i := range v {
			v[i].File = path
		}
	}
	return c, err
}

// Decode is Load without any file.
func Decode(b []byte, env []string) (Config, error) {
	return decodeNode(b, env, func(string) bool { return false })
}

func decodeNode(b []byte, env []string, exists func(file string) bool) (Config, error) {
	top, err := parse(b)
	if err != nil {
		return Config{}, err
	}
	c := Default()
	r := newReader("", top)
	r.adapt()
	r.decode(reflect.ValueOf(&c).Elem())
	r.overlay(&c, env)
	if len(r.errs) == 0 { // else it would complain of what is missing only because it could not be read
		if file := filepath.Join(c.Cluster.DataDir, SecretName); !hasSecret(c) && exists(file) {
			c.Cluster.SecretFile = file
		}
		r.complete(&c)
		r.check(c)
	}
	c.Warnings = sorted(r.said)
	return c, r.invalid()
}
