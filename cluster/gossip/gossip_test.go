package gossip

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/transport"
)

const clusterID = "11111111-2222-3333-4444-555555555555"

// village is a set of members on one network, who know of each other what the founding says.
type village struct {
	t       *testing.T
	net     *transport.Memory
	dir     string
	members map[string]string // id to replicated address
	secrets []transport.Secret
}

// villager is one run of a member.
type villager struct {
	id, host string
	gossip   *Gossip
	creds    *transport.Credentials
	mux      *transport.Mux
	log      *safeBuffer
	changes  atomic.Int64
	stop     func()
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// inVillage runs story in a bubble, with the members a, b and c founded at hosts of their names.
func inVillage(t *testing.T, story func(v *village)) {
	synctest.Test(t, func(t *testing.T) {
		v := &village{
			t: t, net: transport.NewMemory(), dir: t.TempDir(), secrets: []transport.Secret{transport.GenerateSecret()},
			members: map[string]string{"a": "a:7400", "b": "b:7400", "c": "c:7400"},
		}
		story(v)
		time.Sleep(10 * time.Second) // memberlist's probes outlive it
	})
}

// start runs the member id on host until stop.
func (v *village) start(id, host string) *villager {
	v.t.Helper()
	n := &villager{id: id, host: host, log: &safeBuffer{}}
	members := maps.Clone(v.members) // as this node knows them
	logger := hclog.New(&hclog.LoggerOptions{Name: id, Level: hclog.Info, Output: n.log})
	var err error
	if len(v.secrets) == 0 {
		n.creds, err = transport.Insecure("test", id)
	} else {
		n.creds, err = transport.NewCredentials("test", id, v.secrets...)
	}
	if err == nil {
		err = n.creds.SetIdentity(clusterID, id)
	}
	if err != nil {
		v.t.Fatal(err)
	}
	n.mux, err = transport.NewMux(transport.MuxConfig{
		Network: v.net.Host(host), Listen: host + ":7400", Credentials: n.creds, Logger: logger,
		Authorize: func(_ transport.Proto, _, id string) error {
			if members[id] == "" {
				return fmt.Errorf("%s is not a member", id)
			}
			return nil
		},
	})
	if err != nil {
		v.t.Fatal(err)
	}
	n.gossip, err = New(Config{
		Self: Node{ID: id, Addr: host + ":7400", API: host + ":8008", Postgres: host + ":5432"},
		File: filepath.Join(v.dir, id), Logger: logger,
		Members: func() map[string]string { return maps.Clone(members) },
		Open:    func() (Packets, error) { return n.mux.ListenPacket() },
		Accept:  func() net.Listener { return n.mux.Accept(transport.ProtoGossip) },
		Dial: func(ctx context.Context, target string) (net.Conn, error) {
			addrs := []string{target}
			replicated, member := members[target]
			if member {
				addrs = []string{replicated}
				if said, ok := n.gossip.Announced(target); ok {
					addrs = append(addrs, said.Addr)
				}
			} else {
				target = ""
			}
			conn, err := n.mux.DialAny(ctx, transport.ProtoGossip, target, addrs)
			if err != nil {
				return nil, err
			}
			return conn, nil
		},
		OnChange: func() { n.changes.Add(1) },
	}, v.keys(v.secrets...))
	if err != nil {
		v.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.gossip.Run(ctx, clusterID) })
	n.stop = func() {
		v.net.Kill(host)
		cancel()
		running.Wait()
		_ = n.mux.Close()
	}
	return n
}

func (v *village) keys(secrets ...transport.Secret) [][]byte {
	var keys [][]byte
	for _, s := range secrets {
		keys = append(keys, transport.DeriveKey(s, "quorate/gossip/1"))
	}
	return keys
}

// hears waits until n knows that id is at host.
func (v *village) hears(n *villager, id, host string) {
	v.t.Helper()
	for range 3000 {
		if said, ok := n.gossip.Announced(id); ok && said.Addr == host+":7400" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	said, ok := n.gossip.Announced(id)
	v.t.Fatalf("%s does not hear within 30s that %s is at %s, but %+v (%v)\n%s", n.id, id, host, said, ok, n.log)
}

func TestMembersHearWhereTheOthersAre(t *testing.T) {
	inVillage(t, func(v *village) {
		a, b, c := v.start("a", "a"), v.start("b", "b"), v.start("c", "c")
		for _, n := range []*villager{a, b, c} {
			for _, id := range []string{"a", "b", "c"} {
				if id != n.id {
					v.hears(n, id, id)
				}
			}
		}
		if said, _ := a.gossip.Announced("b"); said != (Node{ID: "b", Addr: "b:7400", API: "b:8008", Postgres: "b:5432"}) {
			t.Errorf("a heard of b: %+v", said)
		}
		before := a.changes.Load()
		b.stop()
		b = v.start("b", "elsewhere")
		v.hears(a, "b", "elsewhere")
		v.hears(c, "b", "elsewhere")
		if a.changes.Load() == before {
			t.Error("nobody was woken when b moved")
		}
		before = a.changes.Load()
		b.stop()
		time.Sleep(time.Minute)
		if a.changes.Load() == before {
			t.Error("nobody was woken when b fell silent")
		}
		v.hears(a, "b", "elsewhere") // where it was is remembered
		a.stop()
		c.stop()
	})
}

// All addresses but one change while everything is down.
func TestOneKnownAddressIsEnough(t *testing.T) {
	inVillage(t, func(v *village) {
		old := []*villager{v.start("a", "a"), v.start("b", "b"), v.start("c", "c")}
		v.hears(old[0], "b", "b")
		v.hears(old[1], "c", "c")
		v.hears(old[2], "b", "b")
		for _, n := range old {
			n.stop()
		}
		a, b, c := v.start("a", "a2"), v.start("b", "b"), v.start("c", "c2")
		for n, others := range map[*villager]map[string]string{a: {"b": "b", "c": "c2"}, b: {"a": "a2", "c": "c2"}, c: {"a": "a2", "b": "b"}} {
			for id, host := range others {
				v.hears(n, id, host)
			}
		}
		for _, n := range []*villager{a, b, c} {
			n.stop()
		}
	})
}

// The same, but the one address that stays is known only by what was heard of it: the replicated state never had it.
func TestARememberedAddressIsEnough(t *testing.T) {
	inVillage(t, func(v *village) {
		old := []*villager{v.start("a", "a"), v.start("b", "moved"), v.start("c", "c")}
		v.hears(old[0], "b", "moved")
		v.hears(old[2], "b", "moved")
		time.Sleep(time.Second)
		for _, n := range old {
			n.stop()
		}
		a, b, c := v.start("a", "a2"), v.start("b", "moved"), v.start("c", "c2")
		v.hears(a, "c", "c2")
		v.hears(c, "a", "a2")
		v.hears(b, "a", "a2")
		for _, n := range []*villager{a, b, c} {
			n.stop()
		}
	})
}

// Two nodes swap their addresses: each is found, because it has to prove who it is.
func TestSwappedAddresses(t *testing.T) {
	inVillage(t, func(v *village) {
		old := []*villager{v.start("a", "a"), v.start("b", "b"), v.start("c", "c")}
		v.hears(old[0], "b", "b")
		for _, n := range old {
			n.stop()
		}
		all := []*villager{v.start("a", "a"), v.start("b", "c"), v.start("c", "b")}
		v.hears(all[0], "b", "c")
		v.hears(all[0], "c", "b")
		v.hears(all[1], "c", "b")
		v.hears(all[2], "b", "c")
		for _, n := range all {
			n.stop()
		}
	})
}

func TestNobodyBecomesAMemberByGossip(t *testing.T) {
	inVillage(t, func(v *village) {
		a, c := v.start("a", "a"), v.start("c", "c")
		delete(v.members, "c")
		b := v.start("b", "b") // hears of c by a
		v.hears(a, "c", "c")
		v.hears(b, "a", "a")
		time.Sleep(time.Minute)
		if said, ok := b.gossip.Announced("c"); ok {
			t.Errorf("b believes in a node that is no member: %+v", said)
		}
		for _, n := range []*villager{a, b, c} {
			n.stop()
		}
	})
}

// The keys follow the secrets through a rotation, in the order of the manual, and nobody falls silent for anybody.
func TestKeysRotate(t *testing.T) {
	inVillage(t, func(v *village) {
		all := []*villager{v.start("a", "a"), v.start("b", "b"), v.start("c", "c")}
		for _, n := range all {
			v.hears(n, map[string]string{"a": "b", "b": "c", "c": "a"}[n.id], map[string]string{"a": "b", "b": "c", "c": "a"}[n.id])
		}
		time.Sleep(time.Minute)
		var before []int64
		for _, n := range all {
			before = append(before, n.changes.Load())
		}
		old, next := v.secrets[0], transport.GenerateSecret()
		for _, secrets := range [][]transport.Secret{{old, next}, {next, old}, {next}} {
			for _, n := range all {
				if err := n.creds.SetSecrets(secrets...); err != nil {
					t.Fatal(err)
				}
				if err := n.gossip.SetKeys(v.keys(secrets...)); err != nil {
					t.Fatal(err)
				}
				if got := len(*n.gossip.sealer.keys.Load()); got != len(secrets) {
					t.Fatalf("%s has %d keys of its %d secrets", n.id, got, len(secrets))
				}
				time.Sleep(20 * time.Second)
			}
		}
		for i, n := range all {
			if got := n.changes.Load(); got != before[i] {
				t.Errorf("%s saw %d changes during the rotation\n%s", n.id, got-before[i], n.log)
			}
			if strings.Contains(n.log.String(), "gossip refused") {
				t.Errorf("%s refused gossip during the rotation:\n%s", n.id, n.log)
			}
		}
		v.secrets = []transport.Secret{next}
		all[1].stop()
		all[1] = v.start("b", "b2")
		v.hears(all[0], "b", "b2")
		if all[0].gossip.SetKeys(nil) == nil {
			t.Error("encryption was switched off while running")
		}
		for _, n := range all {
			n.stop()
		}
	})
}

// A busy port is waited for: the node works without gossip meanwhile.
func TestABusyPortIsWaitedFor(t *testing.T) {
	inVillage(t, func(v *village) {
		a := v.start("a", "a")
		taken, err := v.net.Host("b").ListenPacket("b:7400")
		if err != nil {
			t.Fatal(err)
		}
		b := v.start("b", "b")
		time.Sleep(10 * time.Second)
		if !strings.Contains(b.log.String(), "no gossip") {
			t.Errorf("nothing is said of the busy port:\n%s", b.log)
		}
		if err := taken.Close(); err != nil {
			t.Fatal(err)
		}
		v.hears(a, "b", "b")
		v.hears(b, "a", "a")
		a.stop()
		b.stop()
	})
}
