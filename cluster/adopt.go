package cluster

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
)

// DataFacts is what is in a node's data directory before there is a cluster (DETAILS 30).
type DataFacts struct {
	Empty bool            `json:"empty"`
	Dir   string          `json:"dir,omitempty"`   // for people
	Major pg.MajorVersion `json:"major,omitempty"` // of the programs that would run it; 0 on a witness
	// Looking says that it is being looked at, Problem why this directory can't be used as it is and what to do about it.
	Looking bool   `json:"looking,omitempty"`
	Problem string `json:"problem,omitempty"`
	// Unread says the same of the configuration that was in use with it, which matters only where the cluster begins with it.
	Unread string `json:"unread,omitempty"`

	SystemID   pg.SystemID     `json:"system_id,omitempty"`
	State      pg.ControlState `json:"state,omitempty"`
	Timeline   pg.Timeline     `json:"tli,omitempty"` // of the end of the log
	History    pg.History      `json:"history,omitempty"`
	End        pg.LSN          `json:"end,omitempty"`        // of the log; while a server runs, it has at least this
	Highest    pg.Timeline     `json:"highest,omitempty"`    // of which pg_wal has a history, whoever writes it
	Standby    bool            `json:"standby,omitempty"`    // there is a standby.signal
	Recovering bool            `json:"recovering,omitempty"` // there is a recovery.signal
	Unfinished bool            `json:"unfinished,omitempty"` // a base backup whose end was never reached
	Manager    string          `json:"manager,omitempty"`    // the quorate node that ran it last
	Patroni    bool            `json:"patroni,omitempty"`    // Patroni ran it, or what it was copied from
	PID        int             `json:"pid,omitempty"`        // of a server that runs on it, not by this node
	Port       int             `json:"port,omitempty"`       // of that
	// Config is the configuration for a cluster that begins with this directory; nil: nothing had to be taken over.
	Config *fsm.Config `json:"config,omitempty"`
}

// wasPrimary says that the directory was last run as a primary.
func (d DataFacts) wasPrimary() bool {
	switch d.State {
	case pg.ControlShutDown, pg.ControlShuttingDown, pg.ControlInCrashRecovery, pg.ControlInProduction:
		return true
	}
	return false
}

// covers says that the log of o is a part of d's, as far as timelines and positions can tell.
func (d DataFacts) covers(o DataFacts) bool {
	mine := append(slices.Clone(d.History), pg.HistoryEntry{Timeline: d.Timeline, End: d.End})
	theirs := append(slices.Clone(o.History), pg.HistoryEntry{Timeline: o.Timeline, End: o.End})
	last := len(theirs) - 1
	if d.SystemID != o.SystemID || last >= len(mine) || mine[last].Timeline != o.Timeline || mine[last].End < o.End {
		return false
	}
	same := func(a, b pg.HistoryEntry) bool { return a.Timeline == b.Timeline && a.End == b.End }
	return slices.EqualFunc(mine[:last], theirs[:last], same)
}

// String is a node's line in the table that people choose by.
func (d DataFacts) String() string {
	if d.Empty {
		return "empty"
	}
	out := []string{d.Dir, "system " + d.SystemID.String(), d.State.String(), fmt.Sprintf("timeline %d", d.Timeline),
		"log to " + d.End.String()}
	for _, more := range []struct {
		is   bool
		text string
	}{
		{d.Standby, "standby.signal"},
		{d.Recovering, "recovery.signal"},
		{d.Unfinished, "unfinished base backup"},
		{d.Manager != "", "last run by quorate " + d.Manager},
		{d.Patroni, "run by Patroni"},
		{d.PID != 0, fmt.Sprintf("a server runs (pid %d, port %d)", d.PID, d.Port)},
	} {
		if more.is {
			out = append(out, more.text)
		}
	}
	return strings.Join(out, ", ")
}

// founder is one of the initial nodes.
type founder struct {
	member fsm.Member
	data   DataFacts
}

// founders is what the choice is made of: the initial nodes in their order, the first of which begins the cluster, and whose
// directory an operator named, empty if he did not.
type founders struct {
	nodes  []founder
	named  string
	source founder // whose directory it would be
}

// dataVerdict says what the cluster begins with: adopt, or nothing against a new database, or nothing yet.
type dataVerdict struct {
	rule    string
	adopt   *fsm.Adoption
	config  *fsm.Config
	against []string
}

// dataRule is a row: what speaks against going on. Those that a person may overrule by naming a directory say so.
type dataRule struct {
	name     string
	against  func(founders) []string
	overrule bool
}

// dataRules is the order in which the directories are judged. What a person can't overrule comes first, since he is shown
// one reason at a time.
func dataRules() []dataRule {
	return []dataRule{
		{"looking", stillLooking, false},
		{"unusable", unusable, false},
		{"mixed-versions", mixedVersions, false},
		{"named-nobody", namedNobody, false},
		{"named-empty", namedEmpty, false},
		{"running-elsewhere", runningElsewhere, false},
		{"not-electable", notElectable, false},
		{"recovery-pending", recoveryPending, false},
		{"unfinished-backup", unfinishedBackup, false},
		{"run-by-quorate", runByQuorate, false},
		{"unread-settings", unreadSettings, false},
		{"first-empty", firstEmpty, true},
		{"managed", managedBefore, true},
		{"patroni", underPatroni, true},
		{"standby", wasStandby, true},
		{"others-differ", othersDiffer, true},
	}
}

// judgeData decides what the cluster begins with: a new database only if all directories are empty; else the directory of
// the bootstrapping node if all others are copies of it; else the one that a person names. Nothing is ever removed: what is
// not a copy of the chosen directory is kept under another name when its node clones.
func judgeData(f founders) dataVerdict {
	full := func(n founder) bool { return !n.data.Empty }
	f.source = f.nodes[0]
	if at := slices.IndexFunc(f.nodes, func(n founder) bool { return n.member.Name == f.named }); at >= 0 {
		f.source = f.nodes[at]
	}
	some := slices.ContainsFunc(f.nodes, full)
	for _, r := range dataRules() {
		if r.overrule && (f.named != "" || !some) {
			continue
		}
		why := r.against(f)
		if len(why) > 0 && r.overrule {
			why = append(why, f.table()...)
		}
		if len(why) > 0 {
			return dataVerdict{rule: r.name, against: why}
		}
	}
	if !some {
		return dataVerdict{rule: "new"}
	}
	return dataVerdict{rule: "adopt", adopt: f.adoption(), config: f.source.data.Config}
}

// adoption describes the directory of the source. One that was a standby gets a timeline that nobody has: on its own one
// somebody else may have gone on. Postgres takes no number of which it has a history, so none of those is predicted.
func (f founders) adoption() *fsm.Adoption {
	d := f.source.data
	a := &fsm.Adoption{Node: f.source.member.ID, SystemID: d.SystemID, Timeline: d.Timeline, End: d.End}
	for _, e := range d.History {
		a.History = append(a.History, pg.HistoryEntry{Timeline: e.Timeline, End: e.End})
	}
	if !d.wasPrimary() {
		a.Parent = d.Timeline
		for _, n := range f.nodes {
			a.Timeline = max(a.Timeline, n.data.Timeline, n.data.Highest)
		}
		a.Timeline++
	}
	for _, n := range f.others() {
		if f.differs(n) == "" {
			a.Keep = append(a.Keep, n.member.ID)
		} else {
			a.Aside = append(a.Aside, n.member.ID)
		}
	}
	return a
}

// others are the nodes with data beside the source.
func (f founders) others() []founder {
	var out []founder
	for _, n := range f.nodes {
		if !n.data.Empty && n.member.ID != f.source.member.ID {
			out = append(out, n)
		}
	}
	return out
}

// differs says why the directory of n can't go on as a standby of the source's, empty if it can. Of two that were primaries
// on one timeline, as copies of one machine are, positions can't tell whether the one has what the other wrote.
func (f founders) differs(n founder) string {
	switch o, d := n.data, f.source.data; {
	case o.SystemID != d.SystemID:
		return fmt.Sprintf("is of system %s, not %s", o.SystemID, d.SystemID)
	case o.wasPrimary():
		return "was a primary, too: what it wrote may be missing elsewhere"
	case o.Recovering || o.Unfinished:
		return "is a backup that was never recovered"
	case !d.covers(o):
		return fmt.Sprintf("has log up to %s of timeline %d, and that of %s, which ends at %s of timeline %d, does not contain it",
			o.End, o.Timeline, f.source.member.Name, d.End, d.Timeline)
	}
	return ""
}

// table shows all directories and the command that chooses.
func (f founders) table() []string {
	var out []string
	best, most := f.source, -1
	for _, n := range f.nodes {
		out = append(out, fmt.Sprintf("%s: %s", n.member.Name, n.data))
		covered := 0
		for _, o := range f.nodes {
			if !o.data.Empty && n.data.covers(o.data) {
				covered++
			}
		}
		if !n.data.Empty && covered > most {
			best, most = n, covered
		}
	}
	return append(out, fmt.Sprintf("choose the one to begin with, on %s: quorate init --adopt-from %s (those of the "+
		"others are kept under another name)",
		f.nodes[0].member.Name, best.member.Name))
}

// each collects what say has against single nodes.
func (f founders) each(say func(founder) string) []string {
	var out []string
	for _, n := range f.nodes {
		if why := say(n); why != "" {
			out = append(out, n.member.Name+" "+why)
		}
	}
	return out
}

func stillLooking(f founders) []string {
	return f.each(func(n founder) string {
		if n.data.Looking {
			return "is still looking at its data directory"
		}
		return ""
	})
}

func unusable(f founders) []string {
	return f.each(func(n founder) string {
		if n.data.Problem != "" {
			return "can't use its data directory: " + n.data.Problem
		}
		return ""
	})
}

func mixedVersions(f founders) []string {
	want, of := f.source.data.Major, f.source.member.Name
	return f.each(func(n founder) string {
		if n.data.Major == 0 || want == 0 || n.data.Major == want {
			return ""
		}
		return fmt.Sprintf("has PostgreSQL %d and %s has %d, and a standby needs the same: install postgresql-%d on %s and set "+
			"postgresql.bin_dir in its node file", n.data.Major, of, want, want, n.member.Name)
	})
}

func namedNobody(f founders) []string {
	if f.named == "" || f.named == f.source.member.Name {
		return nil
	}
	return []string{fmt.Sprintf("--adopt-from names %q, which is none of the nodes of cluster.peers", f.named)}
}

func namedEmpty(f founders) []string {
	if f.named == "" || !f.source.data.Empty {
		return nil
	}
	return []string{fmt.Sprintf("--adopt-from names %s, whose data directory is empty: name a node that has data", f.named)}
}

func runningElsewhere(f founders) []string {
	return f.each(func(n founder) string {
		if n.data.PID == 0 || n.member.ID == f.source.member.ID {
			return ""
		}
		return fmt.Sprintf("has a server on its data directory that quorate did not start (pid %d, port %d): end it, pg_ctl "+
			"stop -D %s -m fast, and keep it from being started",
			n.data.PID, n.data.Port, n.data.Dir)
	})
}

func notElectable(f founders) []string {
	if f.source.data.Empty || !f.source.member.NoFailover {
		return nil
	}
	return []string{f.source.member.Name + " has the data and tags.nofailover: it can't be the first primary; take the tag away"}
}

func recoveryPending(f founders) []string {
	if !f.source.data.Recovering {
		return nil
	}
	return []string{fmt.Sprintf("%s has a recovery.signal: a restore is not finished; start it with pg_ctl, wait until "+
		"it accepts writes, and stop it: pg_ctl stop -D %s -m fast",
		f.source.member.Name, f.source.data.Dir)}
}

func unfinishedBackup(f founders) []string {
	if !f.source.data.Unfinished {
		return nil
	}
	return []string{fmt.Sprintf("%s has a base backup that was never recovered (backup_label, or its end is not reached). "+
		"Started as it is, it would be a second primary on the timeline of the server that it was copied from, and nobody could "+
		"tell the two apart. Take away standby.signal if there is one, make recovery.signal, set restore_command to where the log "+
		"is (or to 'false', if all of it is in pg_wal), so that it gets a timeline of its own, and archive_mode = off, so that "+
		"nothing reaches that server's archive; start it with pg_ctl, wait until it accepts writes, and stop it: "+
		"pg_ctl stop -D %s -m fast",
		f.source.member.Name, f.source.data.Dir)}
}

func runByQuorate(f founders) []string {
	if f.source.data.PID == 0 || f.source.data.Manager == "" {
		return nil
	}
	return []string{fmt.Sprintf("%s has a server on its data directory that another quorate runs (%s, pid %d): end that "+
		"first: quorate stop",
		f.source.member.Name, f.source.data.Manager, f.source.data.PID)}
}

func unreadSettings(f founders) []string {
	if f.source.data.Unread == "" {
		return nil
	}
	return []string{f.source.member.Name + ": " + f.source.data.Unread}
}

func firstEmpty(f founders) []string {
	if !f.source.data.Empty {
		return nil
	}
	return []string{fmt.Sprintf("%s begins the cluster and has no data, but others have", f.source.member.Name)}
}

func managedBefore(f founders) []string {
	if f.source.data.Manager == "" {
		return nil
	}
	return []string{fmt.Sprintf("the data directory of %s was last run by another quorate (%s): if that cluster exists, "+
		"it must not be taken from it", f.source.member.Name, f.source.data.Manager)}
}

// underPatroni looks at all nodes: a Patroni that goes on anywhere starts its Postgres again, or promotes one that is not a
// member, and then there are two clusters with the same data.
func underPatroni(f founders) []string {
	out := f.each(func(n founder) string {
		if !n.data.Patroni {
			return ""
		}
		return "has a data directory that Patroni ran (" + n.data.Dir + "/patroni.dynamic.json)"
	})
	if len(out) > 0 {
		out = append(out, "stop and disable Patroni on all of its nodes first: nothing may restart or promote these data; then name "+
			"the node to begin with")
	}
	return out
}

func wasStandby(f founders) []string {
	if f.source.data.wasPrimary() && !f.source.data.Standby {
		return nil
	}
	return []string{fmt.Sprintf("the data directory of %s was a standby's (%s): its primary may have more", f.source.member.Name,
		f.source.data.State)}
}

func othersDiffer(f founders) []string {
	var out []string
	for _, n := range f.others() {
		if why := f.differs(n); why != "" {
			out = append(out, "the data directory of "+n.member.Name+" "+why)
		}
	}
	return out
}

// fits says whether what is in the directory of node self now is what a founding was made for.
func (d DataFacts) fits(self fsm.NodeID, a *fsm.Adoption) error {
	chosen := a != nil && a.Node == self
	known := a != nil && (chosen || slices.Contains(a.Keep, self) || slices.Contains(a.Aside, self))
	switch {
	case d.Looking:
		return errors.New("the data directory here is being looked at")
	case d.Problem != "":
		return errors.New(d.Problem)
	case !d.Empty && !known:
		return fmt.Errorf("the data directory %s is not empty, and the cluster begins without it: move it away", d.Dir)
	case chosen && (d.Empty || d.SystemID != a.SystemID):
		return fmt.Errorf("the cluster is to begin with system %s, here is %s", a.SystemID, d)
	}
	return nil
}

// AdoptFrom is a person's word that the cluster begins with the data directory of the named node, whatever the others have.
// It counts on the first node of cluster.peers, until there is a cluster or the daemon ends.
func (c *Cluster) AdoptFrom(name string) error {
	if id := c.identity.clusterID(); id != "" {
		return fmt.Errorf("choose the data to begin with: %w: this node belongs to cluster %s", fsm.ErrExists, id)
	}
	if first := c.peers()[0]; first != c.cfg.Member.Addr {
		return fmt.Errorf("choose the data to begin with: %s is the first of cluster.peers and begins the cluster: say it there", first)
	}
	c.adoptFrom.Store(&name)
	return nil
}

// data judges the directories of all nodes, which have answered.
func (c *Cluster) data(peers []string, answers map[string]helloAnswer) dataVerdict {
	f := founders{}
	if name := c.adoptFrom.Load(); name != nil {
		f.named = *name
	}
	for _, addr := range peers {
		f.nodes = append(f.nodes, founder{member: answers[addr].Member, data: answers[addr].Data})
	}
	return judgeData(f)
}
