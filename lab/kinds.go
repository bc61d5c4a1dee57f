package lab

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// The faults that more than the table names.
const (
	HostKill     = "host-kill"
	PostgresKill = "postgres-kill"
	Partition    = "partition"
	Switchover   = "switchover"
	StandbyKill  = "standby-kill"
	WitnessKill  = "witness-kill"
	LeaderKill   = "leader-kill"

	agentGuardStop = "agent+guard-stop"
)

// kind is one line of the table of faults.
type kind struct {
	name  string
	does  string
	mend  string // what healing does about it
	hits  victim
	needs needs
	due   due
	act   func(*Lab, context.Context, *Node) (at int64, err error)
}

// victim says who a fault hits.
type victim string

const (
	hitsPrimary victim = "primary"
	hitsStandby victim = "standby" // rather not the Raft leader's node
	hitsWitness victim = "witness"
	hitsLeader  victim = "leader" // the Raft leader's node, which is not the primary's
)

// needs is what a fault can't be made without.
type needs struct{ namespaces, disks, witness bool }

// due is what comes of a fault in a cluster that is whole, so that nobody waits for what does not come.
type due string

const (
	dueFailover due = "a new epoch"
	dueEither   due = "nothing if all is back within the lease, else a new epoch"
	dueNothing  due = "nothing: the primary goes on"
)

// kinds is the table of faults, in the order in which it is shown.
func kinds() []kind {
	network, disk, witness := needs{namespaces: true}, needs{namespaces: true, disks: true}, needs{namespaces: true, witness: true}
	none := needs{}
	started, resumed, plugged := "the agent is started", "they are resumed (SIGCONT)", "its link is up and its agent started"
	return []kind{
		{HostKill, "the primary's host vanishes: its link, then everything that runs on it", plugged, hitsPrimary, network, dueFailover, (*Lab).killHost},
		{PostgresKill, "SIGKILL to the primary's postmaster", "nothing", hitsPrimary, none, dueFailover, (*Lab).killPostgres},
		{Partition, "the primary is cut off from the other nodes; clients still reach all", "the packet filter is removed", hitsPrimary, network, dueFailover, (*Lab).cutOff},
		{Switchover, "no fault: another node is asked to take over", "nothing", hitsPrimary, none, dueFailover, (*Lab).askSwitchover},
		{"backend-kill", "SIGKILL to one session of the primary's Postgres", "nothing", hitsPrimary, none, dueFailover, (*Lab).killBackend},
		{"isolate", "the primary is cut off from the other nodes and from clients; its processes live", "its link is up", hitsPrimary, network, dueFailover, (*Lab).isolate},
		{"agent-kill", "SIGKILL to the primary's agent, which is started again after " + respawnAfter.String(), started, hitsPrimary, none, dueEither, (*Lab).killAgent},
		{"agent-kill-norespawn", "SIGKILL to the primary's agent, which stays away", started, hitsPrimary, none, dueFailover, (*Lab).killAgentForGood},
		{"agent-stop", "SIGSTOP to the primary's agent", resumed, hitsPrimary, none, dueFailover, (*Lab).stopAgent},
		{"agent-upgrade", "the primary's agent is ended by SIGTERM and started from a new copy of its program", "nothing: the copy stays in use", hitsPrimary, none, dueEither, (*Lab).upgradeAgent},
		{"guard-kill", "SIGKILL to the primary's guard, whose death ends Postgres", "nothing", hitsPrimary, none, dueEither, (*Lab).killGuard},
		{"guard-stop", "SIGSTOP to the primary's guard", resumed, hitsPrimary, none, dueFailover, (*Lab).stopGuard},
		{"agent+guard-kill", "SIGKILL to the primary's agent and guard; both stay away", started, hitsPrimary, none, dueFailover, (*Lab).killBoth},
		{agentGuardStop, "SIGSTOP to the primary's agent and guard: nobody is left who could fence its Postgres", resumed, hitsPrimary, none, dueFailover, (*Lab).stopBoth},
		{"postgres-stop", "SIGSTOP to the primary's postmaster: sessions go on, new ones hang", resumed, hitsPrimary, none, dueFailover, (*Lab).stopPostgres},
		{"disk-hang", "every write to the primary's disk hangs, and who waits for it can't be killed", "the disk is thawed", hitsPrimary, disk, dueFailover, (*Lab).hangDiskOf},
		{"disk-full", "no byte is left on the primary's disk", "what fills it is removed", hitsPrimary, disk, dueFailover, (*Lab).fillDiskOf},
		{StandbyKill, "the host of a standby vanishes", plugged, hitsStandby, network, dueNothing, (*Lab).killHost},
		{WitnessKill, "the host of a witness vanishes", plugged, hitsWitness, witness, dueNothing, (*Lab).killHost},
		{LeaderKill, "the host of the Raft leader, where the primary is not, vanishes", plugged, hitsLeader, network, dueNothing, (*Lab).killHost},
	}
}

// kindOf finds a kind: ErrUnknown.
func kindOf(name string) (kind, error) {
	all := kinds()
	if i := slices.IndexFunc(all, func(k kind) bool { return k.name == name }); i >= 0 {
		return all[i], nil
	}
	return kind{}, fmt.Errorf("%w: %q; there are %s", ErrUnknown, name, strings.Join(Faults(), ", "))
}

// Faults are the names of all kinds.
func Faults() []string {
	var names []string
	for _, k := range kinds() {
		names = append(names, k.name)
	}
	return names
}

// NeedsDisks says whether that kind needs a lab whose nodes have disks of their own.
func NeedsDisks(name string) bool {
	k, err := kindOf(name)
	return err == nil && k.needs.disks
}

// FaultHelp is the table of faults for people.
func FaultHelp() string {
	var b strings.Builder
	for _, k := range kinds() {
		var needs []string
		for word, needed := range map[string]bool{"root": k.needs.namespaces, "--disks": k.needs.disks, "--witness": k.needs.witness} {
			if needed {
				needs = append(needs, word)
			}
		}
		slices.Sort(needs)
		slices.Reverse(needs)
		fmt.Fprintf(&b, "  %-21s %s\n", k.name, k.does)
		fmt.Fprintf(&b, "  %-21s   due: %s; healing: %s", "", k.due, k.mend)
		if len(needs) > 0 {
			fmt.Fprintf(&b, "; needs %s", strings.Join(needs, ", "))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// lacks says what this lab has not got for that kind; "" if it has all.
func (l *Lab) lacks(k kind) string {
	switch {
	case k.needs.namespaces && !l.Namespaces:
		return "network namespaces, and those need root"
	case k.needs.disks && !l.Disks:
		return "a lab made with --disks"
	case k.needs.witness && len(l.witnesses()) == 0:
		return "a lab made with --witness 1 or more"
	case k.hits != hitsPrimary && k.hits != hitsWitness && len(l.data()) < 2:
		return "a standby"
	}
	return ""
}

// impossible are the faults that can't be made in this lab.
func (l *Lab) impossible() []string { return l.which(false) }

// faults are those that can be made.
func (l *Lab) faults() []string { return l.which(true) }

func (l *Lab) which(can bool) (names []string) {
	for _, k := range kinds() {
		if (l.lacks(k) == "") == can {
			names = append(names, k.name)
		}
	}
	return names
}

// CanMake says why a fault of that kind can't be made: ErrUnknown, ErrCannot.
func (l *Lab) CanMake(name string) error {
	k, err := kindOf(name)
	if err != nil {
		return err
	}
	if lack := l.lacks(k); lack != "" {
		return fmt.Errorf("%w: %s needs %s; possible are %s", ErrCannot, name, lack, strings.Join(l.faults(), ", "))
	}
	return nil
}

// victimOf chooses the node that a fault hits in a cluster that is as s says.
func (l *Lab) victimOf(k kind, s State) (*Node, error) {
	var all []*Node
	for _, n := range l.Nodes {
		fits := false
		switch k.hits {
		case hitsPrimary:
			fits = n.Name == s.Primary
		case hitsStandby:
			fits = !n.Witness && n.Name != s.Primary
		case hitsWitness:
			fits = n.Witness
		case hitsLeader:
			fits = n.Name == s.Leader && n.Name != s.Primary
		}
		if fits {
			all = append(all, n)
		}
	}
	for _, n := range all {
		if n.Name != s.Leader {
			return n, nil
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: %s hits the %s, and there is none now (primary %q, Raft leader %q)", ErrCannot, k.name, k.hits, s.Primary, s.Leader)
	}
	return all[0], nil
}
