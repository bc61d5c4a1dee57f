package node

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
)

// TestOwnedParameters: a document that config takes holds nothing that pgctl would refuse to start with.
func TestOwnedParameters(t *testing.T) {
	for _, name := range pgctl.OwnedParameters() {
		if !slices.Contains(config.OwnedParameters(), name) {
			t.Errorf("%s is owned by pgctl, and config would take it", name)
		}
	}
}

// TestTags: a priority of 1 is any node's, and the user's own tags are shown.
func TestTags(t *testing.T) {
	for _, c := range []struct {
		tags config.Tags
		want string
	}{
		{config.Default().Tags, "map[]"},
		{config.Tags{FailoverPriority: 7, NoFailover: true}, "map[failover_priority:7 nofailover:true]"},
		{config.Tags{NoLoadBalance: true, Other: map[string]any{"rack": int64(3)}}, "map[noloadbalance:true rack:3]"},
	} {
		if got := fmt.Sprint(tags(&Node{cfg: config.Config{Tags: c.tags}})); got != c.want {
			t.Errorf("%+v: %s, want %s", c.tags, got, c.want)
		}
	}
}

// TestParameters: the node's own file goes before the document, each parameter for itself and the hba lines as a whole.
func TestParameters(t *testing.T) {
	n := &Node{cfg: config.Config{PostgreSQL: config.PostgreSQL{Parameters: map[string]string{"work_mem": "1MB"}}}}
	d := config.DCS{PostgreSQL: config.DCSPostgreSQL{Parameters: map[string]string{"work_mem": "2MB", "max_connections": "50"}, PgHBA: []string{"local all all peer"}}}
	p := n.parameters(3, d)
	if p.Version != 3 || p.Set["work_mem"] != "1MB" || p.Set["max_connections"] != "50" || len(p.HBA) != 1 {
		t.Errorf("got %+v", p)
	}
	n.cfg.PostgreSQL.PgHBA = []string{"a", "b"}
	if p := n.parameters(3, d); len(p.HBA) != 2 {
		t.Errorf("own hba lines do not go first: %v", p.HBA)
	}
	n.file.Store(&config.PostgreSQL{Parameters: map[string]string{"work_mem": "4MB"}})
	if p := n.parameters(3, d); p.Set["work_mem"] != "4MB" || len(p.HBA) != 1 {
		t.Errorf("a file that was read again does not go before the first: %+v", p)
	}
}

// TestReloaded: a file that was read again is taken as far as it can be, and the rest is named.
func TestReloaded(t *testing.T) {
	first := config.Default()
	first.Name, first.PostgreSQL.Parameters = "n1", map[string]string{"work_mem": "1MB"}
	for _, c := range []struct {
		name           string
		own            config.PostgreSQL // nothing: as at first
		change         func(*config.Config)
		taken, restart []string
	}{
		{"nothing new", config.PostgreSQL{}, func(*config.Config) {}, nil, nil},
		{"a parameter", config.PostgreSQL{}, func(c *config.Config) { c.PostgreSQL.Parameters = map[string]string{"work_mem": "2MB"} }, []string{"postgresql.parameters"}, nil},
		{"the same parameter again", config.PostgreSQL{Parameters: map[string]string{"work_mem": "2MB"}},
			func(c *config.Config) { c.PostgreSQL.Parameters = map[string]string{"work_mem": "2MB"} }, nil, nil},
		{"back to what it was", config.PostgreSQL{Parameters: map[string]string{"work_mem": "2MB"}}, func(*config.Config) {}, []string{"postgresql.parameters"}, nil},
		{"hba lines", config.PostgreSQL{}, func(c *config.Config) { c.PostgreSQL.PgHBA = []string{"local all all peer"} }, []string{"postgresql.pg_hba"}, nil},
		{"an address beside", config.PostgreSQL{}, func(c *config.Config) { c.PostgreSQL.Listen, c.Log.Level = "x:1", "debug" }, nil, []string{"postgresql", "log"}},
		{"what only makes a cluster", config.PostgreSQL{}, func(c *config.Config) { c.Bootstrap.DCS.Strict = true }, nil, nil},
	} {
		now, own := first, c.own
		if own.Parameters == nil {
			own = first.PostgreSQL
		}
		c.change(&now)
		got := reloaded(first, own, now)
		if !slices.Equal(got.Taken, c.taken) || !slices.Equal(got.Restart, c.restart) || got.Node != "n1" {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// heard is what n1, n2, n3 say when all is well and n1 is primary.
func heard() map[fsm.NodeID]failover.Sighting {
	out := map[fsm.NodeID]failover.Sighting{}
	for _, id := range []fsm.NodeID{"1", "2", "3"} {
		out[id] = failover.Sighting{Age: 50 * time.Millisecond, Report: failover.Report{Node: id, Epoch: 3, Config: failover.Configured{Hot: pg.HotStandby{100, 8, 0, 64}}}}
	}
	p := out["1"]
	p.Report.Serving, p.Report.Streaming = 3, []failover.StreamingMember{{Node: "2"}, {Node: "3"}}
	out["1"] = p
	return out
}

func TestMayRestart(t *testing.T) {
	announce := func(id fsm.NodeID) func(*fsm.State, map[fsm.NodeID]failover.Sighting) {
		return func(_ *fsm.State, seen map[fsm.NodeID]failover.Sighting) {
			s := seen[id]
			s.Report.Config.Restart = true
			seen[id] = s
		}
	}
	without := func(ids ...fsm.NodeID) func(*fsm.State, map[fsm.NodeID]failover.Sighting) {
		return func(_ *fsm.State, seen map[fsm.NodeID]failover.Sighting) {
			p := seen["1"]
			p.Report.Streaming = slices.DeleteFunc(p.Report.Streaming, func(m failover.StreamingMember) bool { return slices.Contains(ids, m.Node) })
			seen["1"] = p
		}
	}
	for _, c := range []struct {
		name      string
		self      fsm.NodeID
		announced bool
		change    func(*fsm.State, map[fsm.NodeID]failover.Sighting)
		why       string
	}{
		{"a standby", "2", false, nil, ""},
		{"the primary", "1", false, nil, ""},
		{"the other standby does not stream", "2", false, without("3"), "commits need 1 other nodes that stream and only 0 would"},
		{"the primary with one standby", "1", false, without("3"), ""},
		{"the primary without any", "1", false, without("2", "3"), "only 0 would"},
		{"one that counts for no commit", "3", false, func(s *fsm.State, seen map[fsm.NodeID]failover.Sighting) {
			s.Sync.Members = []fsm.NodeID{"1", "2"}
			without("2")(s, seen)
		}, ""},
		{"async", "2", false, func(s *fsm.State, seen map[fsm.NodeID]failover.Sighting) {
			s.Sync = fsm.SyncRule{}
			without("2", "3")(s, seen)
		}, ""},
		{"somebody is at it", "2", false, announce("3"), "n3 is being restarted"},
		{"both announced, the lower goes", "2", true, announce("3"), ""},
		{"both announced, the higher waits", "3", true, announce("2"), "n2 is being restarted"},
		{"an announcement of long ago", "3", true, func(s *fsm.State, seen map[fsm.NodeID]failover.Sighting) {
			announce("2")(s, seen)
			other := seen["2"]
			other.Age = time.Minute
			seen["2"] = other
		}, ""},
		{"a switchover is pending", "2", false, func(s *fsm.State, _ map[fsm.NodeID]failover.Sighting) {
			s.Wish = &fsm.Wish{Kind: fsm.WishSwitchover}
		}, "a switchover is pending"},
		{"the primary is silent", "2", false, func(_ *fsm.State, seen map[fsm.NodeID]failover.Sighting) {
			p := seen["1"]
			p.Age = 2 * time.Second
			seen["1"] = p
		}, "not heard to serve"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, seen := threeNodes(3, "1"), heard()
			if c.change != nil {
				c.change(&s, seen)
			}
			why := mayRestart(s, c.self, true, c.announced, false, seen)
			if (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
				t.Errorf("got %q, want %q", why, c.why)
			}
		})
	}
	if why := mayRestart(threeNodes(3, "1"), "1", false, false, false, heard()); !strings.Contains(why, "does not serve") {
		t.Errorf("a primary that does not serve: %q", why)
	}
}

// TestMayRestartInsisting: a standby that the log has outgrown is restarted though commits wait for it meanwhile, and still one at a
// time and beside a primary that serves.
func TestMayRestartInsisting(t *testing.T) {
	s, seen := threeNodes(3, "1"), heard()
	p := seen["1"]
	p.Report.Streaming = []failover.StreamingMember{{Node: "2"}}
	seen["1"] = p
	if why := mayRestart(s, "2", true, false, false, seen); why == "" {
		t.Error("restarted by the way though the commits wait for it")
	}
	if why := mayRestart(s, "2", true, false, true, seen); why != "" {
		t.Errorf("stands still for ever: %s", why)
	}
	other := seen["3"]
	other.Report.Config.Restart = true
	seen["3"] = other
	if why := mayRestart(s, "2", true, false, true, seen); !strings.Contains(why, "one at a time") {
		t.Errorf("beside another one: %q", why)
	}
}

// TestMayReinit: a copy is not begun while commits depend on the log here, unless that is forced; nothing else can be.
func TestMayReinit(t *testing.T) {
	alone := func() map[fsm.NodeID]failover.Sighting {
		seen := heard()
		p := seen["1"]
		p.Report.Streaming = []failover.StreamingMember{{Node: "2"}}
		seen["1"] = p
		return seen
	}
	pending := threeNodes(3, "1")
	pending.Wish = &fsm.Wish{Kind: fsm.WishSwitchover}
	outside := threeNodes(3, "1")
	outside.Sync = fsm.SyncRule{Members: []fsm.NodeID{"1", "3"}, Copies: 2}
	for _, c := range []struct {
		name  string
		s     fsm.State
		self  fsm.NodeID
		force bool
		seen  map[fsm.NodeID]failover.Sighting
		why   string
	}{
		{"a standby", threeNodes(3, "1"), "2", false, heard(), ""},
		{"the primary", threeNodes(3, "1"), "1", true, heard(), "it is the primary"},
		{"the only one that streams", threeNodes(3, "1"), "2", false, alone(), "commits need 1 other nodes that stream and only 0 would"},
		{"the only one that streams, forced", threeNodes(3, "1"), "2", true, alone(), ""},
		{"one that does not stream, nor count", outside, "2", false, heard(), ""},
		{"one that does not stream itself", threeNodes(3, "1"), "3", false, alone(), ""},
		{"a switchover is pending", pending, "2", true, heard(), "a switchover is pending"},
		{"nobody is heard", threeNodes(3, "1"), "2", true, nil, "not heard to serve"},
	} {
		why := mayReinit(c.s, c.self, c.force, false, c.seen)
		if (why == "") != (c.why == "") || !strings.Contains(why, c.why) || strings.Contains(why, "switchover to this node") {
			t.Errorf("%s: %q, want %q", c.name, why, c.why)
		}
	}
	a := &agent{Node: &Node{}, restart: restarting{req: &restartRequest{reinit: true}}}
	if why := a.againstReinit(threeNodes(3, "1"), "2", alone()); why == "" {
		t.Error("replaced though commits need the log that is there")
	}
	a.have.Dir = pgctl.Dir{Empty: true, Gone: "it is gone"}
	if why := a.againstReinit(threeNodes(3, "1"), "2", alone()); why != "" {
		t.Errorf("there is no log that commits could need: %s", why)
	}
}

// TestOrderingReads: the primary looks at the standbys that are heard, a standby at the primary.
func TestOrderingReads(t *testing.T) {
	seen := heard()
	gone := seen["3"]
	gone.Age = time.Minute
	seen["3"] = gone
	o := ordering(threeNodes(3, "1"), "1", seen)
	if !o.Primary || len(o.Standbys) != 1 || !o.Standbys["n2"].Known() || o.Upstream.Known() {
		t.Errorf("the primary reads %+v", o)
	}
	o = ordering(threeNodes(3, "1"), "2", seen)
	if o.Primary || o.Upstream[0] != 100 {
		t.Errorf("a standby reads %+v", o)
	}
}

// A key of Patroni's that means nothing here is taken with 200, as Patroni takes any, so the log says it.
func TestKeysThatAreNotFollowedAreLogged(t *testing.T) {
	for edit, merge := range map[string]bool{
		`{"ttl": 20, "slots": {"x": {"type": "physical"}}, "strict": true}`:                                 true,
		`{"failover_after": "1s", "ttl": 20, "slots": {"x": {"type": "physical"}}, "durability": "quorum"}`: false,
	} {
		var log strings.Builder
		n := &Node{log: hclog.New(&hclog.LoggerOptions{Output: &log, Level: hclog.Warn})}
		doc, _, err := n.readConfig(t.Context(), `{"failover_after":"1s","durability":"quorum"}`, []byte(edit), merge)
		if err != nil || strings.Contains(doc, "ttl") {
			t.Errorf("%s %v", doc, err)
		}
		for _, key := range []string{"key=ttl ", "key=slots ", `because="not made and not carried over`} {
			if strings.Count(log.String(), key) != 1 {
				t.Errorf("%s\nsays %s not once:\n%s", edit, key, log.String())
			}
		}
	}
}
