package node

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/cluster"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
)

// lookEvery is how old what is known of the data directory may be while there is no cluster.
const lookEvery = time.Second

// finding is the newest look at the data directory before there is a cluster. It is taken beside who asks, because the first
// one reads much log.
type finding struct {
	mu    sync.Mutex
	busy  bool
	known bool
	facts cluster.DataFacts
	at    time.Time
}

// dataFacts is asked while there is no cluster.
func (n *Node) dataFacts() cluster.DataFacts {
	if n.postgres == nil {
		return cluster.DataFacts{Empty: true}
	}
	f := &n.finding
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.busy && time.Since(f.at) >= lookEvery {
		f.busy = true
		go n.find()
	}
	if !f.known {
		return cluster.DataFacts{Dir: n.cfg.PostgreSQL.DataDir, Looking: true}
	}
	return f.facts
}

func (n *Node) find() {
	facts := n.factsOf(n.postgres.Found())
	f := &n.finding
	f.mu.Lock()
	defer f.mu.Unlock()
	f.facts, f.known, f.busy, f.at = facts, true, false, time.Now()
}

// factsOf puts what was found into the words of the cluster.
func (n *Node) factsOf(found pgctl.Found) cluster.DataFacts {
	f := cluster.DataFacts{
		Empty: found.Empty, Dir: n.cfg.PostgreSQL.DataDir, Major: n.postgres.Major(), Problem: found.Problem,
		SystemID: found.Control.SystemID, State: found.Control.State,
		Timeline: found.Position.Timeline, History: found.Position.History, End: found.Position.LSN,
		Highest: found.Highest, Patroni: found.Patroni,
		Standby: found.Standby, Recovering: found.Recovering, Unfinished: found.Unfinished, Manager: found.Manager,
		PID: found.Server.PID, Port: found.Server.Port, Unread: found.Unread,
	}
	if f.Problem != "" || f.Unread != "" || f.Empty {
		return f
	}
	var err error
	if f.Config, err = withImport(n.cfg.Bootstrap.DCS, found.Import); err != nil {
		f.Unread = fmt.Sprintf("the settings that were in use can't become the cluster's: %v; change them there, or give "+
			"them in bootstrap.dcs.postgresql", err)
	}
	return f
}

// withImport is the configuration for a cluster that begins with a directory whose settings were elsewhere: what the node file
// says counts, and of the rest what was in use. It is nil when there is nothing to add.
func withImport(d config.DCS, found pgctl.Parameters) (*fsm.Config, error) {
	if len(found.Set) == 0 && (len(found.HBA) == 0 || len(d.PostgreSQL.PgHBA) > 0) {
		return nil, nil
	}
	set := maps.Clone(found.Set)
	if set == nil {
		set = map[string]string{}
	}
	maps.Copy(set, d.PostgreSQL.Parameters)
	d.PostgreSQL.Parameters = set
	if len(d.PostgreSQL.PgHBA) == 0 {
		d.PostgreSQL.PgHBA = slices.Clone(found.HBA)
	}
	doc, err := d.Doc()
	if err != nil {
		return nil, err
	}
	if _, err := config.ReadDCS([]byte(doc)); err != nil {
		return nil, err
	}
	return &fsm.Config{Version: 1, Doc: doc, Settings: d.Settings()}, nil
}
