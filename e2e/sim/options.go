package sim

import (
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/quorate/quorate/fsm"
)

// Mutation names one mechanism that the world does without. A simulator that does not notice is worth nothing.
type Mutation string

// The mutations, each with what it leaves out.
const (
	MutNone      Mutation = ""
	MutSeal      Mutation = "durable-seal"  // a seal is told before it is on disk, and never gets there
	MutLastVouch Mutation = "last-vouch"    // a voter that was restarted forgets for whom it vouched a moment ago
	MutWait      Mutation = "wait"          // the leader does not wait for what is left of the last vouches
	MutDetach    Mutation = "detach"        // the walreceiver is not ended before the position is told
	MutPosition  Mutation = "position"      // the position is what SQL says, not the end of the log
	MutOrder     Mutation = "sync-order"    // PostgreSQL is told of every change of the sync rule before it is agreed
	MutProof     Mutation = "sync-proof"    // a changed rule counts as in force when the file is written
	MutFloor     Mutation = "floor"         // a node that was restarted begins with the state of its log, not with that of its disk
	MutGate      Mutation = "gate"          // a server that starts lets clients read at once
	MutClock     Mutation = "suspend-clock" // clocks stand still while a host is suspended
	MutKill      Mutation = "kill"          // when the postmaster is gone, its backends are left alone
	MutRev       Mutation = "rev"           // a command is applied whatever it was decided under
	MutIdentity  Mutation = "identity"      // a host that lost its disk goes on as the member that it was
	MutEvidence  Mutation = "evidence"      // nothing is kept of what a rewind or a clone takes away
	MutHalt      Mutation = "halt"          // a command that a release does not know is skipped
	MutSettings  Mutation = "settings"      // a start that only replays takes the settings of one that writes
	MutBackoff   Mutation = "backoff"       // a leader takes failovers for a quarter as old as they are
	MutAside     Mutation = "aside"         // of the data that were there before all are taken for copies
)

// Options are one world. Everything that is not here follows from Seed.
type Options struct {
	Seed    uint64
	Without Mutation
	Keep    []int     // the faults of the seed's plan that happen, by number; nil: all
	Log     io.Writer // the tape; nil: none
	shape   shape
}

// lacks says whether the world does without m.
func (o Options) lacks(m Mutation) bool { return o.Without == m || builtWithout == m }

// shape is the cluster of a seed.
type shape struct {
	data, witnesses, spares int
	failoverAfter           time.Duration
	durability              fsm.Durability
	strict                  bool
	wide                    bool // a network between sites
	adopts                  bool // there are data before there is a cluster
	accepts                 bool // an operator accepts losses; elsewhere whoever is stuck has to get on by himself
}

// The times of a seed.
const (
	settled = 9 * time.Second // faults begin
	healed  = 75 * time.Second
	ended   = 125 * time.Second

	minFaults = 6 // in a seed's plan
)

func (o Options) healAt() time.Duration        { return healed }
func (o Options) failoverAfter() time.Duration { return o.shape.failoverAfter }

func (w *World) beatEvery() time.Duration   { return w.opts.shape.failoverAfter / 8 }
func (w *World) leaseLength() time.Duration { return w.opts.shape.failoverAfter * 4 / 5 }

// drawShape chooses a cluster.
func drawShape(rng *rand.Rand) shape {
	s := shape{data: 3, failoverAfter: time.Second, durability: fsm.DurabilityQuorum}
	switch p := rng.Float64(); {
	case p < 0.15:
		s.data, s.witnesses = 2, 1
	case p < 0.30:
		s.data = 5
	case p < 0.36:
		s.data, s.witnesses = 3, 2
	case p < 0.40:
		s.data = 4
	}
	if s.data+s.witnesses < 5 && rng.Float64() < 0.5 {
		s.spares = 2
	}
	switch p := rng.Float64(); {
	case p < 0.1:
		s.failoverAfter = 500 * time.Millisecond
	case p < 0.2:
		s.failoverAfter = 3 * time.Second
	}
	if rng.Float64() < 0.12 {
		s.durability = fsm.DurabilityAsync
	}
	s.strict, s.wide = rng.Float64() < 0.1 && s.durability != fsm.DurabilityAsync, rng.Float64() < 0.15
	s.adopts = rng.Float64() < 0.12
	return s
}

func (s shape) String() string {
	out := fmt.Sprintf("%d data", s.data)
	if s.witnesses > 0 {
		out += fmt.Sprintf(" + %d witnesses", s.witnesses)
	}
	if s.spares > 0 {
		out += fmt.Sprintf(" + %d to join", s.spares)
	}
	out += fmt.Sprintf(", failover_after %s, durability %s", s.failoverAfter, s.durability)
	if s.strict {
		out += ", strict"
	}
	if s.wide {
		out += ", between sites"
	}
	if s.accepts {
		out += ", with an operator who accepts losses"
	}
	if s.adopts {
		out += ", with data that were there"
	}
	return out
}

// founding is the first command.
func (o Options) founding(w *World) fsm.Init {
	c := fsm.Init{ClusterID: "c", Scope: "sim", Config: fsm.Config{Version: 1, Settings: o.settings(o.shape.durability)}, Adopted: w.adopted}
	if doc, err := document(c.Config.Settings, map[string]string{"work_mem": "2MB", "max_connections": "150"}); o.shape.adopts && o.Seed%2 == 0 && err == nil {
		c.Config.Doc = doc // what was in use is taken over
	}
	for _, h := range w.hosts {
		if !h.joins {
			c.Members = append(c.Members, h.member())
		}
	}
	return c
}

func (o Options) settings(d fsm.Durability) fsm.Settings {
	return fsm.Settings{
		FailoverAfterMS: o.shape.failoverAfter.Milliseconds(), Durability: d, Strict: o.shape.strict, MaximumLag: 1 << 20,
	}
}

func (h *host) member() fsm.Member {
	m := fsm.Member{ID: h.id, Name: h.name, Role: h.role, Addr: h.name + ":7400", API: h.name + ":8008"}
	if h.role == fsm.RoleData {
		m.Postgres, m.Major = h.name+":5432", 15
	}
	return m
}

// Mutations are those that seeds are known to notice.
func Mutations() []Mutation {
	return []Mutation{
		MutSeal, MutLastVouch, MutWait, MutDetach, MutPosition, MutOrder, MutProof, MutFloor, MutGate, MutClock, MutKill,
		MutRev, MutIdentity, MutEvidence, MutHalt, MutSettings, MutAside, MutBackoff,
	}
}
