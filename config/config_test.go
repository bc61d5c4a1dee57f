package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const minimal = `
scope: demo
name: n1
cluster:
  listen: 10.0.0.1:7400
  data_dir: /var/lib/quorate
  peers: [10.0.0.1:7400, 10.0.0.2:7400, 10.0.0.3:7400]
  secret_file: /etc/quorate/secret
restapi: { listen: 10.0.0.1:8008 }
postgresql: { listen: 10.0.0.1:5432, data_dir: /var/lib/postgresql/15/main }
`

func TestDecodeFillsInWhatFollows(t *testing.T) {
	c, err := Decode([]byte(minimal), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := time.Duration(c.Bootstrap.DCS.FailoverAfter); got != time.Second {
		t.Errorf("failover_after is %s, want the default 1s", got)
	}
	if c.Fencing.KillAfter != 0 || c.Bootstrap.SaysFailoverAfter {
		t.Errorf("kill_after is %s, and that failover_after is given %v: neither is", time.Duration(c.Fencing.KillAfter), c.Bootstrap.SaysFailoverAfter)
	}
	given, err := Decode([]byte(minimal+"bootstrap: { dcs: { failover_after: 1s } }\n"), nil)
	if err != nil || !given.Bootstrap.SaysFailoverAfter {
		t.Errorf("a failover_after that is given is taken for the default: %v", err)
	}
	if c.Cluster.ConnectAddress != "10.0.0.1:7400" || c.Fencing.Cgroup != "quorate/demo-n1" || c.PostgreSQL.OSUser != "postgres" {
		t.Errorf("not completed: %+v", c)
	}
}

func TestPeersMayStandInAFlowMapping(t *testing.T) {
	text := strings.Replace(minimal, `cluster:
  listen: 10.0.0.1:7400
  data_dir: /var/lib/quorate
  peers: [10.0.0.1:7400, 10.0.0.2:7400, 10.0.0.3:7400]
  secret_file: /etc/quorate/secret`, `cluster: { listen: 10.0.0.1:7400, peers: [10.0.0.1:7400, 10.0.0.2:7400], secret_file: /s }`, 1)
	c, err := Decode([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"10.0.0.1:7400", "10.0.0.2:7400"}; !slices.Equal(c.Cluster.Peers, want) {
		t.Errorf("peers are %v, want %v", c.Cluster.Peers, want)
	}
}

// TestRefusals: what is wrong is named with its value, and where it is known with its line.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ name, from, to, want string }{
		{"an unknown key", "scope: demo", "scope: demo\nscoop: x", `line 3: scoop: unknown key; did you mean "scope"?`},
		{"a name Postgres would fold", "name: n1", "name: N1", `line 3: name: "N1"`},
		{"a scope with a space", "scope: demo", "scope: a b", `line 2: scope: "a b"`},
		{"an address with a port that is none", "listen: 10.0.0.1:5432", "listen: 10.0.0.1:pg", `line 10: postgresql.listen: "10.0.0.1:pg" is not host:port`},
		{"half a certificate", "listen: 10.0.0.1:7400", "listen: 10.0.0.1:7400\n  tls: { cert_file: /c }", "needs cert_file, key_file and ca_file"},
		{"a certificate without a secret", "secret_file: /etc/quorate/secret", "tls: { cert_file: /c, key_file: /k, ca_file: /ca }", "the key of gossip and the admin token come from the secret"},
		{"a wildcard nobody can dial", "listen: 10.0.0.1:5432", "listen: 0.0.0.0:5432", "set postgresql.connect_address"},
		{"a node that is not among its peers", "peers: [10.0.0.1:7400, ", "peers: [10.0.0.9:7400, ", "own address 10.0.0.1:7400"},
		{"no secret off loopback", "  secret_file: /etc/quorate/secret\n", "", "cluster.secret_file"},
		{"state inside the data directory", "data_dir: /var/lib/quorate", "data_dir: /var/lib/postgresql/15/main/q", "inside postgresql.data_dir"},
		{"too quick a failover", "scope: demo", "scope: demo\nbootstrap: { dcs: { failover_after: 100ms } }", "line 3: bootstrap.dcs.failover_after: 100ms"},
		{"a duration without a unit", "scope: demo", "scope: demo\nbootstrap: { dcs: { failover_after: 3 } }", `"3" is not a duration`},
		{"a durability that is none", "scope: demo", "scope: demo\nbootstrap: { dcs: { durability: maybe } }", `line 3: bootstrap.dcs.durability: "maybe"`},
		{"half of a certificate", "listen: 10.0.0.1:8008", "listen: 10.0.0.1:8008, certfile: /c", `restapi.certfile: "/c"`},
		{"client certificates of nobody", "listen: 10.0.0.1:8008", "listen: 10.0.0.1:8008, certfile: /c, keyfile: /k, verify_client: required", "verify_client: required needs restapi.certfile, keyfile and cafile"},
		{"a way to ask for certificates that is none", "listen: 10.0.0.1:8008", "listen: 10.0.0.1:8008, verify_client: maybe", `restapi.verify_client: "maybe"`},
		{"a user without a password", "listen: 10.0.0.1:8008", "listen: 10.0.0.1:8008, authentication: { username: u }", "give username, without a colon, and password"},
		{"an address that is none", "listen: 10.0.0.1:8008", "listen: 10.0.0.1:8008, allowlist: [10.0.0.0/8, db1]", `restapi.allowlist: "db1"`},
		{"a parameter quorate owns", "data_dir: /var/lib/postgresql/15/main", "data_dir: /var/lib/postgresql/15/main, parameters: { port: 1 }", "parameter port"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(minimal, c.from, c.to, 1)
			if text == minimal {
				t.Fatalf("%q is not in the node file", c.from)
			}
			_, err := Decode([]byte(text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want it to name %s", err, c.want)
			}
		})
	}
}

func TestEnvironmentOverridesTheFile(t *testing.T) {
	c, err := Decode([]byte(minimal), []string{"HOME=/", "QUORATE_NAME=n2", "QUORATE_TAGS_NOFAILOVER=true", "QUORATE_CLUSTER_PEERS=10.0.0.1:7400,10.0.0.2:7400", "QUORATE_FENCING_KILL_AFTER=100ms"})
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "n2" || !c.Tags.NoFailover || len(c.Cluster.Peers) != 2 || time.Duration(c.Fencing.KillAfter) != 100*time.Millisecond {
		t.Errorf("environment not applied: %+v", c)
	}
	if _, err := Decode([]byte(minimal), []string{"QUORATE_NAEM=n2"}); err == nil || !strings.Contains(err.Error(), "QUORATE_NAEM") {
		t.Errorf("a misspelt variable gives %v, want an error that names it", err)
	}
}

func TestRestAPI(t *testing.T) {
	text := strings.Replace(minimal, "{ listen: 10.0.0.1:8008 }", `
  listen: 10.0.0.1:8008
  authentication: { username: u, password: p }
  certfile: /c
  keyfile: /k
  cafile: /ca
  verify_client: optional
  allowlist: [10.1.2.3/8, 192.168.0.1, "::ffff:10.0.0.9"]`, 1)
	c, err := Decode([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := c.RestAPI.AllowList.Prefixes()
	if err != nil || len(p) != 3 || p[0].String() != "10.0.0.0/8" || p[1].String() != "192.168.0.1/32" || p[2].String() != "10.0.0.9/32" {
		t.Errorf("%v %v", p, err)
	}
	c, err = Decode([]byte(minimal), []string{"QUORATE_RESTAPI_AUTHENTICATION_USERNAME=u", "QUORATE_RESTAPI_AUTHENTICATION_PASSWORD=p", "QUORATE_RESTAPI_ALLOWLIST=10.0.0.1,10.0.0.2"})
	if err != nil || c.RestAPI.Authentication != (HTTPBasic{"u", "p"}) || len(c.RestAPI.AllowList) != 2 {
		t.Errorf("from the environment: %+v %v", c.RestAPI, err)
	}
}

// TestTiming holds the inequalities that lease.md needs: the lease has run out before anybody is called silent.
func TestTiming(t *testing.T) {
	for _, fa := range []time.Duration{500 * time.Millisecond, time.Second, time.Minute} {
		tm := TimingOf(fa)
		if wait := tm.Lease * 101 / 99; wait >= fa {
			t.Errorf("failover_after %s: a lease of %s may run for %s on a slow clock", fa, tm.Lease, wait)
		}
		if tm.Margin >= tm.Lease-2*tm.Beat {
			t.Errorf("failover_after %s: margin %s leaves nothing of the lease %s between beats of %s", fa, tm.Margin, tm.Lease, tm.Beat)
		}
	}
}
