package bubble

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/transport"
)

// inWorld runs story on n nodes that were prepared and started, with logs as JSON.
func inWorld(t *testing.T, n int, prepare, story func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, n)
		w.json = true
		defer w.stop()
		prepare(w)
		for _, n := range w.nodes {
			n.run()
		}
		story(w)
		w.checkOneWriter()
	})
}

func asIs(*world) {}

// settled waits for a steady state in which n1 is primary, n2 a standby and n3 leads.
func (w *world) settled() (primary, standby, leader *node) {
	w.t.Helper()
	_, leader = w.settle()
	if last := w.nodes[2]; leader != last {
		if err := leader.running().Transfer(context.Background(), last.id()); err != nil {
			w.t.Fatal(err)
		}
	}
	primary, leader = w.settle()
	if primary != w.nodes[0] || leader != w.nodes[2] {
		w.t.Fatalf("%s is primary and %s leads", primary.name, leader.name)
	}
	return primary, w.nodes[1], leader
}

func ofFoundings(t *testing.T) []refusal {
	var rows []refusal
	waits := func(node, input, text string, prepare func(w *world)) {
		t.Helper()
		inWorld(t, 3, prepare, func(w *world) {
			said := w.heard(node, "waiting for the cluster to begin", text)
			for _, n := range w.nodes {
				if n.running().ClusterID() != "" || n.serving() != 0 {
					t.Errorf("%s: %s is in a cluster", input, n.name)
				}
			}
			rows = append(rows, refusal{input, w.plain(said), "no cluster; the nodes wait"})
		})
	}
	rows = append(rows, secondBootstrap(t))
	waits("n3", "two nodes of one name", "both named", func(w *world) { w.nodes[1].name = "n1" })
	waits("n1", "another list of peers on one of them", "other cluster.peers", func(w *world) {
		w.nodes[1].peers = w.nodes[1].peers[:2]
	})
	waits("n1", "another failover_after on one of them", "has failover_after", func(w *world) { w.nodes[1].failoverAfter = 10 * time.Second })
	waits("n1", "another cluster.secret on one of them", "another cluster.secret", func(w *world) {
		for i, n := range w.nodes {
			n.secrets = []transport.Secret{transport.GenerateSecret()}
			if i != 1 {
				n.secrets = w.nodes[0].secrets
			}
		}
	})
	waits("n1", "no cluster.secret on one of them", "cluster.secret", func(w *world) {
		w.nodes[0].secrets = []transport.Secret{transport.GenerateSecret()}
		w.nodes[1].secrets = w.nodes[0].secrets
	})
	data := func(system pg.SystemID, state pg.ControlState) *cluster.DataFacts {
		return &cluster.DataFacts{Dir: "/data", Major: 15, SystemID: system, State: state, Timeline: 2, End: 0x3000000}
	}
	waits("n1", "a database on the second node alone", "adopt-from", func(w *world) { w.nodes[1].data = data(77, pg.ControlShutDown) })
	waits("n1", "databases of two system identifiers", "is of system", func(w *world) {
		w.nodes[0].data, w.nodes[1].data = data(42, pg.ControlShutDown), data(77, pg.ControlShutDown)
	})
	waits("n1", "a directory that is not empty and can't be used", "holiday", func(w *world) {
		w.nodes[2].data = &cluster.DataFacts{Dir: "/data", Problem: "/data is not empty and has no PG_VERSION (holiday.jpg)"}
	})
	waits("n1", "two major versions", "PostgreSQL 16", func(w *world) {
		for i, n := range w.nodes {
			n.data = &cluster.DataFacts{Empty: true, Major: 15 + pg.MajorVersion(i/2)}
		}
	})
	return rows
}

// secondBootstrap wipes the first node and lets it begin anew.
func secondBootstrap(t *testing.T) (r refusal) {
	inWorld(t, 3, asIs, func(w *world) {
		w.settle()
		first := w.nodes[0]
		first.halt()
		wiped := w.stranger("n1")
		wiped.peers = first.peers
		w.become(append([]*node{wiped}, w.nodes[1:]...))
		wiped.run()
		said := w.heard("n1", "waiting for the cluster to begin", "belongs to cluster")
		time.Sleep(20 * time.Second)
		if id := wiped.running().ClusterID(); id != "" {
			t.Errorf("a second cluster: %s", id)
		}
		r = refusal{"a second bootstrap: the first of cluster.peers was wiped", w.plain(said),
			"no second cluster; the node waits to be joined"}
	})
	return r
}

func ofJoins(t *testing.T) []refusal {
	var rows []refusal
	secrets := []transport.Secret{transport.GenerateSecret()}
	inWorld(t, 3, func(w *world) {
		for _, n := range w.nodes {
			n.secrets, n.major = secrets, 15
		}
	}, func(w *world) {
		primary, _, leader := w.settled()
		before := leader.running().State()
		join := func(input, text string, change func(n *node, id *string)) {
			t.Helper()
			n, id := w.stranger("n4"), leader.running().ClusterID()
			n.secrets, n.major = secrets, 15
			change(n, &id)
			err := w.join(n, id, false, "n1:7400") // which passes it on to the leader
			if err == nil {
				t.Fatalf("%s: let in", input)
			}
			there := w.said("n1", "a node was not let in", text)
			if there == "" {
				there = w.heard("n1", "refused a connection", text)
			}
			if !errors.Is(err, cluster.ErrUnfit) && !errors.Is(err, fsm.ErrInvalid) {
				t.Errorf("%s: tried again until %v", input, err)
			}
			rows = append(rows, refusal{input, w.plain(err.Error()) + "\n*the cluster's log:* " + w.plain(there), "exit code 5"})
			time.Sleep(time.Second)
		}
		join("a token of another cluster", "the token is of cluster", func(_ *node, id *string) { *id = "another" })
		join("another cluster.secret", "cluster.secret of both", func(n *node, _ *string) {
			n.secrets = []transport.Secret{transport.GenerateSecret()}
		})
		join("a name that a living member has", "lives at", func(n *node, _ *string) { n.name = w.nodes[1].name })
		join("a name that is none", "N4", func(n *node, _ *string) { n.name = "N4" })
		join("a database of another system identifier", "another database", func(n *node, _ *string) {
			n.data = &cluster.DataFacts{Dir: "/data", SystemID: 77}
		})
		join("an earlier copy of this database", "earlier copy", func(n *node, _ *string) {
			n.data = &cluster.DataFacts{Dir: "/data", SystemID: before.SystemID}
		})
		join("a directory that is not empty and not Postgres's", "no PostgreSQL", func(n *node, _ *string) {
			n.data = &cluster.DataFacts{Dir: "/data", Problem: "/data holds something that is no PostgreSQL"}
		})
		join("another major version", "PostgreSQL 16", func(n *node, _ *string) { n.major = 16 })
		rows = append(rows, twice(w))
		remove := func(input, name string) {
			t.Helper()
			err := leader.running().Remove(context.Background(), cluster.Removal{Name: name})
			if !errors.Is(err, cluster.ErrUnfit) {
				t.Fatalf("%s: %v", input, err)
			}
			rows = append(rows, refusal{input, w.plain(err.Error()), "exit code 5"})
		}
		remove("to remove the primary", primary.name)
		remove("to remove who is no member", "n9")
		if now := leader.running().State(); now.Version != before.Version || len(now.Members) != 3 {
			t.Errorf("a refusal changed something: version %d -> %d, %+v", before.Version, now.Version, now.Members)
		}
	})
	return rows
}

// twice joins a node that is a member of a cluster already.
func twice(w *world) refusal {
	w.t.Helper()
	known := w.nodes[1]
	known.halt()
	again := &node{w: w, name: known.name, host: known.host, dir: known.dir, secrets: known.secrets, major: 15}
	err := w.join(again, "another", false, "n1:7400")
	if !errors.Is(err, cluster.ErrUnfit) {
		w.t.Fatalf("a member joins again: %v", err)
	}
	known.run()
	w.settle()
	said := strings.ReplaceAll(err.Error(), known.dir, "/DIR")
	return refusal{"a node that belongs to a cluster already", w.plain(said), "exit code 5"}
}

// caller is somebody with a port, a secret and an identity.
func (w *world) caller(host string, secrets []transport.Secret, clusterID, nodeID string) *transport.Mux {
	w.t.Helper()
	creds, err := transport.Insecure("bubble", nodeID)
	if len(secrets) > 0 {
		creds, err = transport.NewCredentials("bubble", nodeID, secrets...)
	}
	if err == nil && clusterID != transport.NewCluster {
		err = creds.SetIdentity(clusterID, nodeID)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	m, err := transport.NewMux(transport.MuxConfig{
		Network: w.net.Host(host), Listen: host + ":0", Credentials: creds, Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return m
}

func ofConnections(t *testing.T) []refusal {
	var rows []refusal
	inWorld(t, 3, func(w *world) {
		secrets := []transport.Secret{transport.GenerateSecret()}
		for _, n := range w.nodes {
			n.secrets = secrets
		}
	}, func(w *world) {
		primary, _, leader := w.settled()
		id, term := primary.running().ClusterID(), leader.running().RaftInfo().Term
		own, other := w.nodes[0].secrets, []transport.Secret{transport.GenerateSecret()}
		foreign := "b1b1b1b1-0000-0000-0000-000000000000"
		call := func(input string, secrets []transport.Secret, clusterID, nodeID string, proto transport.Proto, target, text string) {
			t.Helper()
			m := w.caller("evil", secrets, clusterID, nodeID)
			defer m.Close()
			_, err := m.DialNode(t.Context(), proto, "n1:7400", target)
			if err == nil {
				t.Fatalf("%s: taken", input)
			}
			here := ""
			if text != "" {
				here = "\n*the other's log:* " + w.plain(w.heard("n1", "refused a connection", text))
			}
			rows = append(rows, refusal{input, w.plain(err.Error()) + here, "no connection"})
		}
		member := string(w.nodes[1].id())
		call("another cluster.secret", other, id, member, transport.ProtoRaft, "", "cluster.secret of both")
		call("no cluster.secret", nil, id, member, transport.ProtoRaft, "", "the caller has none")
		call("another cluster of the same scope and secret, at a reused address: Raft", own, foreign, "x", transport.ProtoRaft, "",
			"different clusters")
		call("the same: calls", own, foreign, "x", transport.ProtoRPC, "", "different clusters")
		call("a node of this cluster that is no member", own, id, "x", transport.ProtoBeat, "", "not a member")
		call("a node that has not joined", own, transport.NewCluster, "x", transport.ProtoRaft, "", "has not joined")
		call("a protocol of another version", own, id, member, "quorate-raft/9", "", "")
		call("another node at a member's address", own, id, member, transport.ProtoRaft, member, "")
		rows = append(rows, foreignFounding(w, own))
		time.Sleep(10 * time.Second)
		if now := w.leader(); now != leader || now.running().RaftInfo().Term != term || primary.serving() != 1 {
			t.Errorf("something came of it: term %d, epoch %d", leader.running().RaftInfo().Term, w.epoch())
		}
	})
	return rows
}

// foreignFounding tells a member of a cluster that another one was founded.
func foreignFounding(w *world, secrets []transport.Secret) refusal {
	w.t.Helper()
	m := w.caller("evil", secrets, transport.NewCluster, "x")
	rpc := transport.NewRPC(m, hclog.NewNullLogger())
	defer func() { _ = rpc.Close(); _ = m.Close() }()
	body, err := json.Marshal(map[string]any{"first": "x", "init": fsm.Init{ClusterID: "b1b1b1b1-0000-0000-0000-000000000000"}})
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = rpc.Call(w.t.Context(), "n1:7400", "form", body)
	if err == nil {
		w.t.Fatal("a second founding was taken")
	}
	return refusal{"the founding of another cluster, told to a member", w.plain(err.Error()), "the node stays in its cluster"}
}
