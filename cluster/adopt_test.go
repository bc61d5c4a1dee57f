package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// The directories of the tests: a primary on timeline 2, a standby with less of the same log, and what else is found.
func primaryData(end pg.LSN) DataFacts {
	return DataFacts{Dir: "/data", Major: 15, SystemID: 77, State: pg.ControlShutDown, Timeline: 2,
		History: pg.History{{Timeline: 1, End: 50}}, End: end}
}

func standbyData(end pg.LSN) DataFacts {
	d := primaryData(end)
	d.State, d.Standby = pg.ControlShutDownInRecovery, true
	return d
}

func with(d DataFacts, change func(*DataFacts)) DataFacts {
	change(&d)
	return d
}

var noData = DataFacts{Empty: true, Major: 15}

// foundersOf are n1, n2 and n3 with these directories.
func foundersOf(named string, data ...DataFacts) founders {
	f := founders{named: named}
	for n, d := range data {
		name := fmt.Sprintf("n%d", n+1)
		f.nodes = append(f.nodes, founder{member: fsm.Member{ID: fsm.NodeID("id-" + name), Name: name, Role: fsm.RoleData}, data: d})
	}
	return f
}

func TestJudgeData(t *testing.T) {
	running := with(primaryData(100), func(d *DataFacts) { d.State, d.PID, d.Port = pg.ControlInProduction, 4711, 5433 })
	noFailover := foundersOf("", primaryData(100), noData, noData)
	noFailover.nodes[0].member.NoFailover = true
	for _, c := range []struct {
		name string
		f    founders
		rule string
		says []string // in what is against it
		then string   // whom it adopts, on which timeline from which, keep and aside
	}{
		{"all are empty", foundersOf("", noData, noData, noData), "new", nil, ""},
		{"a witness has no version", foundersOf("", noData, DataFacts{Empty: true}, noData), "new", nil, ""},
		{"one does not know yet", foundersOf("", noData, with(noData, func(d *DataFacts) { d.Looking = true }), noData), "looking",
			[]string{"n2 is still"}, ""},
		{"one can't be used", foundersOf("n1", primaryData(100), with(noData, func(d *DataFacts) { d.Problem = "mode 0755" }), noData),
			"unusable", []string{"n2 can't use its data directory: mode 0755"}, ""},
		{"other programs", foundersOf("", primaryData(100), noData, with(noData, func(d *DataFacts) { d.Major = 16 })),
			"mixed-versions", []string{"n3 has PostgreSQL 16 and n1 has 15", "install postgresql-15 on n3 "}, ""},
		{"nobody is named that", foundersOf("n9", primaryData(100), noData, noData), "named-nobody", []string{`"n9"`}, ""},
		{"the named one has nothing", foundersOf("n2", primaryData(100), noData, noData), "named-empty", []string{"n2"}, ""},
		{"named, and all are empty", foundersOf("n1", noData, noData, noData), "named-empty", []string{"n1"}, ""},

		{"the first has data", foundersOf("", primaryData(100), noData, noData), "adopt", nil, "id-n1 2<0 [] []"},
		{"it crashed", foundersOf("", with(primaryData(100), func(d *DataFacts) { d.State = pg.ControlInProduction }), noData, noData),
			"adopt", nil, "id-n1 2<0 [] []"},
		{"a server runs on it", foundersOf("", running, noData, noData), "adopt", nil, "id-n1 2<0 [] []"},
		{"its standbys are there", foundersOf("", primaryData(100), standbyData(100), standbyData(60)), "adopt", nil,
			"id-n1 2<0 [id-n2 id-n3] []"},
		{"a standby that never saw its timeline", foundersOf("", primaryData(100), with(standbyData(50),
			func(d *DataFacts) { d.Timeline, d.History = 1, nil }), noData), "adopt", nil, "id-n1 2<0 [id-n2] []"},

		{"a server runs beside it", foundersOf("", primaryData(100), with(standbyData(90), func(d *DataFacts) { d.PID = 12 }), noData),
			"running-elsewhere", []string{"n2", "pid 12", "pg_ctl stop -D /data -m fast"}, ""},
		{"a server runs beside the named one", foundersOf("n2", running, primaryData(100), noData), "running-elsewhere", []string{"n1",
			"pid 4711", "port 5433"}, ""},
		{"it may not be primary", noFailover, "not-electable", []string{"nofailover"}, ""},
		{"a restore is not finished", foundersOf("n1", with(primaryData(100), func(d *DataFacts) { d.Recovering = true }), noData,
			noData), "recovery-pending", []string{"recovery.signal"}, ""},
		{"a backup was never recovered", foundersOf("n1", with(primaryData(100), func(d *DataFacts) { d.Unfinished = true }), noData,
			noData), "unfinished-backup", []string{"backup_label", "a second primary on the timeline", "recovery.signal", "restore_command",
			"archive_mode = off"}, ""},
		{"another quorate runs it", foundersOf("n1", with(running, func(d *DataFacts) { d.Manager = "demo/n7" }), noData, noData),
			"run-by-quorate", []string{"demo/n7", "quorate stop"}, ""},

		{"its settings would be lost", foundersOf("n1", with(primaryData(100), func(d *DataFacts) { d.Unread = "pg_hba.conf" }), noData,
			noData), "unread-settings", []string{"n1: pg_hba.conf"}, ""},
		{"the settings of a copy don't matter", foundersOf("", primaryData(100), with(standbyData(90),
			func(d *DataFacts) { d.Unread = "pg_hba.conf" }), noData), "adopt", nil, "id-n1 2<0 [id-n2] []"},

		{"the first is empty", foundersOf("", noData, primaryData(100), standbyData(90)), "first-empty", []string{"n1 begins",
			"n2: /data, system 77, shut down, timeline 2, log to 0/64", "n3: /data", "n1: empty", "on n1: quorate init --adopt-from n2"},
			""},
		{"the first is empty, and another is named", foundersOf("n2", noData, primaryData(100), standbyData(90)), "adopt", nil,
			"id-n2 2<0 [id-n3] []"},
		{"another quorate ran it", foundersOf("", with(primaryData(100), func(d *DataFacts) { d.Manager, d.Standby = "demo/n7", true }),
			noData, noData), "managed", []string{"demo/n7", "--adopt-from n1"}, ""},
		{"another quorate ran it, and it is named", foundersOf("n1", with(primaryData(100), func(d *DataFacts) {
			d.Manager,
				d.Standby = "demo/n7", true
		}), noData, noData), "adopt", nil, "id-n1 2<0 [] []"},
		{"Patroni ran it", foundersOf("", with(primaryData(100), func(d *DataFacts) { d.Patroni = true }), noData, noData), "patroni",
			[]string{"n1 has a data directory that Patroni ran (/data/patroni.dynamic.json)", "stop and disable Patroni on all",
				"quorate init --adopt-from n1"}, ""},
		{"Patroni ran the copy beside it", foundersOf("", primaryData(100), with(standbyData(90),
			func(d *DataFacts) { d.Patroni = true }), noData), "patroni", []string{"n2 has a data directory that Patroni ran"}, ""},
		{"Patroni ran it, and it is named", foundersOf("n1", with(primaryData(100), func(d *DataFacts) { d.Patroni = true }), noData,
			noData), "adopt", nil, "id-n1 2<0 [] []"},
		{"it was a standby", foundersOf("", standbyData(100), noData, noData), "standby",
			[]string{"was a standby's (shut down in recovery)", "--adopt-from n1"}, ""},
		{"it was a primary and has a standby.signal", foundersOf("", with(primaryData(100), func(d *DataFacts) { d.Standby = true }),
			noData, noData), "standby", []string{"--adopt-from n1"}, ""},
		{"it was a standby and is named: a timeline nobody has", foundersOf("n1", standbyData(100), with(primaryData(90),
			func(d *DataFacts) { d.Timeline = 5 }), standbyData(80)), "adopt", nil, "id-n1 6<2 [id-n3] [id-n2]"},
		{"it was a standby, and heard of a timeline that its log is not on", foundersOf("n1", with(standbyData(100),
			func(d *DataFacts) { d.Highest = 3 }), noData, noData), "adopt", nil, "id-n1 4<2 [] []"},
		{"it was a standby, and another heard of one", foundersOf("n1", standbyData(100), with(standbyData(80),
			func(d *DataFacts) { d.Highest = 7 }), noData), "adopt", nil, "id-n1 8<2 [id-n2] []"},
		{"another system", foundersOf("", primaryData(100), with(standbyData(90), func(d *DataFacts) { d.SystemID = 78 }), noData),
			"others-differ", []string{"n2 is of system 78, not 77", "--adopt-from n1"}, ""},
		{"another system, and it is named", foundersOf("n1", primaryData(100), with(standbyData(90),
			func(d *DataFacts) { d.SystemID = 78 }), noData), "adopt", nil, "id-n1 2<0 [] [id-n2]"},
		{"two primaries", foundersOf("", primaryData(100), primaryData(90), noData), "others-differ", []string{"n2 was a primary, too"},
			""},
		{"a standby that is ahead", foundersOf("", primaryData(100), standbyData(101), standbyData(90)), "others-differ",
			[]string{"n2 has log up to 0/65 of timeline 2", "--adopt-from n2"}, ""},
		{"a standby on a later timeline", foundersOf("", primaryData(100), with(standbyData(100), func(d *DataFacts) {
			d.Timeline, d.History = 3, append(d.History, pg.HistoryEntry{Timeline: 2, End: 90})
		}), noData), "others-differ", []string{"of timeline 3"}, ""},
		{"a standby that left elsewhere", foundersOf("", primaryData(100), with(standbyData(60),
			func(d *DataFacts) { d.History = pg.History{{Timeline: 1, End: 40}} }), noData), "others-differ", []string{"n2 has log up to"},
			""},
		{"a backup beside it", foundersOf("", primaryData(100), with(standbyData(60), func(d *DataFacts) { d.Unfinished = true }),
			noData), "others-differ", []string{"n2 is a backup"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := judgeData(c.f)
			if v.rule != c.rule {
				t.Fatalf("rule %s (%q), want %s", v.rule, v.against, c.rule)
			}
			if text := strings.Join(v.against, "\n"); (v.rule == "new" || v.rule == "adopt") != (text == "") {
				t.Errorf("against: %q", text)
			} else {
				for _, want := range c.says {
					if !strings.Contains(text, want) {
						t.Errorf("it lacks %q:\n%s", want, text)
					}
				}
			}
			got := ""
			if a := v.adopt; a != nil {
				got = fmt.Sprintf("%s %d<%d %v %v", a.Node, a.Timeline, a.Parent, a.Keep, a.Aside)
			}
			if got != c.then {
				t.Errorf("adopts %q, want %q", got, c.then)
			}
		})
	}
}

// TestJudgeEveryData puts directories with every fact on each of three nodes, and with every pair of facts on one of them, named and not, and looks at what must hold whatever it is:
// a new database only where nothing is, unnamed only a primary that has all there is, and all data either kept or set aside.
func TestJudgeEveryData(t *testing.T) {
	changes := []func(*DataFacts){
		func(*DataFacts) {},
		func(d *DataFacts) { d.Looking = true },
		func(d *DataFacts) { d.Problem = "it has one" },
		func(d *DataFacts) { d.Major = 16 },
		func(d *DataFacts) { d.SystemID = 78 },
		func(d *DataFacts) { d.State = pg.ControlInProduction },
		func(d *DataFacts) { d.State = pg.ControlStartingUp },
		func(d *DataFacts) { d.End = 200 },
		func(d *DataFacts) {
			d.Timeline, d.History = 3, pg.History{{Timeline: 1, End: 50}, {Timeline: 2, End: 70}}
		},
		func(d *DataFacts) { d.Highest = 9 },
		func(d *DataFacts) { d.Recovering = true },
		func(d *DataFacts) { d.Unfinished = true },
		func(d *DataFacts) { d.Manager = "demo/n7" },
		func(d *DataFacts) { d.Patroni = true },
		func(d *DataFacts) { d.PID = 12 },
		func(d *DataFacts) { d.Unread = "pg_hba.conf" },
	}
	single, pairs := []DataFacts{noData}, []DataFacts{}
	for n, c := range changes {
		single = append(single, with(primaryData(100), c), with(standbyData(100), c))
		for _, more := range changes[n+1:] {
			pairs = append(pairs, with(with(primaryData(100), c), more), with(with(standbyData(100), c), more))
		}
	}
	fired := map[string]int{}
	try := func(named string, data ...DataFacts) {
		f := foundersOf(named, data...)
		v := judgeData(f)
		fired[v.rule]++
		if fault := faultOf(f, v); fault != "" {
			t.Fatalf("%s: named %q, rule %s %q, adopts %+v\nn1: %s\nn2: %s\nn3: %s", fault, named, v.rule, v.against, v.adopt, data[0],
				data[1], data[2])
		}
	}
	for _, named := range []string{"", "n1", "n2", "n9"} {
		for _, a := range single {
			for _, b := range single {
				for _, c := range single {
					try(named, a, b, c)
				}
			}
			for _, b := range []DataFacts{noData, primaryData(100), standbyData(100)} {
				for _, c := range pairs {
					try(named, c, a, b)
					try(named, a, c, b)
				}
			}
		}
	}
	noFailover := foundersOf("", primaryData(100), noData)
	noFailover.nodes[0].member.NoFailover = true
	fired[judgeData(noFailover).rule]++
	for _, r := range dataRules() {
		if fired[r.name] == 0 {
			t.Errorf("no directories reach the rule %s", r.name)
		}
	}
}

// faultOf says what must not be, empty if all is well.
func faultOf(f founders, v dataVerdict) string {
	var full []fsm.NodeID
	for _, n := range f.nodes {
		if !n.data.Empty {
			full = append(full, n.member.ID)
		}
	}
	switch {
	case v.rule == "new":
		if len(full) > 0 || v.adopt != nil {
			return "a new database over data"
		}
		return ""
	case v.rule != "adopt":
		if len(v.against) == 0 || v.adopt != nil {
			return "held without a reason"
		}
		return ""
	}
	a := v.adopt
	named := slices.Concat([]fsm.NodeID{a.Node}, a.Keep, a.Aside)
	slices.Sort(named)
	if !slices.Equal(named, full) {
		return "not all data are spoken of once"
	}
	for _, n := range f.nodes {
		d := n.data
		chosen, kept := n.member.ID == a.Node, slices.Contains(a.Keep, n.member.ID)
		switch {
		case d.Looking || d.Problem != "":
			return "adopted with an unusable directory"
		case chosen && (d.Recovering || d.Unfinished || d.Unread != ""):
			return "a restore is adopted"
		case f.named == "" && d.Patroni:
			return "taken from Patroni without being named"
		case chosen && f.named == "" && (n.member.Name != "n1" || !d.wasPrimary() || d.Standby || d.Manager != ""):
			return "adopted without being named"
		case chosen && f.named != "" && n.member.Name != f.named:
			return "another than the named one"
		case chosen && d.wasPrimary() != (a.Parent == 0):
			return "a standby goes on on its own timeline"
		case kept && (d.wasPrimary() || d.SystemID != a.SystemID || d.End > a.End):
			return "kept, and it is no copy"
		case !chosen && d.PID != 0:
			return "a server runs beside it"
		case a.Parent != 0 && max(d.Timeline, d.Highest) >= a.Timeline:
			return "its timeline is taken"
		}
	}
	if f.named == "" && len(a.Aside) > 0 {
		return "data set aside that nobody decided about"
	}
	return ""
}

func TestAFoundingFitsTheDirectory(t *testing.T) {
	a := &fsm.Adoption{Node: "id-n1", SystemID: 77, Keep: []fsm.NodeID{"id-n2"}, Aside: []fsm.NodeID{"id-n3"}}
	other := with(primaryData(100), func(d *DataFacts) { d.SystemID = 78 })
	for _, c := range []struct {
		self string
		data DataFacts
		a    *fsm.Adoption
		want string // part of the refusal; empty: none
	}{
		{"id-n1", noData, nil, ""},
		{"id-n1", primaryData(100), nil, "not empty"},
		{"id-n1", primaryData(100), a, ""},
		{"id-n1", noData, a, "is to begin with system 77, here is empty"},
		{"id-n1", other, a, "is to begin with system 77"},
		{"id-n2", standbyData(90), a, ""},
		{"id-n3", other, a, ""},
		{"id-n4", noData, a, ""},
		{"id-n4", standbyData(90), a, "not empty"},
		{"id-n2", with(noData, func(d *DataFacts) { d.Looking = true }), a, "being looked at"},
		{"id-n2", with(noData, func(d *DataFacts) { d.Problem = "gone" }), a, "gone"},
	} {
		err := c.data.fits(fsm.NodeID(c.self), c.a)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s with %s: %v, want %q", c.self, c.data, err, c.want)
		}
	}
}

// The first node has nothing: all wait until a person names the node with the data, which then is the first primary.
func TestTheClusterBeginsWithTheDataThatAPersonNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPeerNodes(t, 3)
		p.full.Store("n2", with(primaryData(100), func(d *DataFacts) {
			d.Config = &fsm.Config{Version: 1, Doc: "theirs", Settings: fsm.Settings{FailoverAfterMS: 1000, MaximumLag: 7,
				Durability: fsm.DurabilityQuorum}}
		}))
		p.full.Store("n3", primaryData(90))
		n1, n2, n3 := p.open("n1"), p.open("n2"), p.open("n3")
		stops := []func() error{p.run(n1), p.run(n2), p.run(n3)}
		time.Sleep(time.Minute)
		if n1.ClusterID() != "" {
			t.Error("a cluster began though its first node has no data and others have")
		}
		if err := n2.AdoptFrom("n2"); err == nil || !strings.Contains(err.Error(), "n1:7400 is the first") {
			t.Errorf("said on the second node: %v", err)
		}
		if err := n1.AdoptFrom("n2"); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "n2 is primary", func() bool { return n1.State().Epoch > 0 && n2.State().Epoch > 0 && n3.State().Epoch > 0 })
		s := n3.State()
		a := s.Adopted
		if s.Primary != n2.Self() || s.Config.Doc != "theirs" || a == nil || a.SystemID != 77 || !slices.Equal(a.Aside,
			[]fsm.NodeID{n3.Self()}) {
			t.Errorf("primary %s, adopted %+v, configuration %q", s.Name(s.Primary), a, s.Config.Doc)
		}
		if l := s.Lineage[0]; l.Timeline != 2 || l.Parent != 0 || l.Promoted {
			t.Errorf("the first assignment is %+v", l)
		}
		if err := n1.AdoptFrom("n3"); err == nil || !strings.Contains(err.Error(), "belongs to cluster") {
			t.Errorf("said when there is a cluster: %v", err)
		}
		p.mustStop(stops...)
	})
}
