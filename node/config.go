package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

const (
	settingsBox   = 20 * time.Second // to check, write and reload settings
	settingsRetry = 30 * time.Second // until refused settings are tried again
	settingsSoon  = time.Second      // the same, of settings that can't be judged yet
	surveyEvery   = 5 * time.Second
	surveySoon    = 300 * time.Millisecond // after a change, which takes the server a moment
	checkBox      = 3 * time.Second        // to check a document before it is replicated
)

// configuring is what the agent knows of the replicated configuration and of what Postgres has of it. The fields above mu
// belong to the agent's loop.
type configuring struct {
	version uint64             // of the document that wanted is from; 0 for none
	file    *config.PostgreSQL // that it is from, nil for the one that the daemon was started with
	wanted  pgctl.Parameters   // with the node's own over it
	unread  string             // why the document can't be read here
	held    []string           // what the order of restarts holds back
	began   time.Duration      // when the agent first looked
	lookAt  time.Duration      // when the server is surveyed next

	mu      sync.Mutex // guards all below
	busy    bool
	refused string        // why Postgres has not taken wanted
	tried   uint64        // the version that Postgres was given last
	tryAt   time.Duration // not before this is it given again
	survey  pgctl.Survey
	of      uint64 // the run that survey is of
}

// parameters puts what this node's file says over a document.
func (n *Node) parameters(version uint64, d config.DCS) pgctl.Parameters {
	return parameters(version, d, n.own())
}

func parameters(version uint64, d config.DCS, own config.PostgreSQL) pgctl.Parameters {
	p := pgctl.Parameters{Version: version, Set: map[string]string{}, HBA: d.PostgreSQL.PgHBA}
	maps.Copy(p.Set, d.PostgreSQL.Parameters)
	maps.Copy(p.Set, own.Parameters)
	if len(own.PgHBA) > 0 {
		p.HBA = own.PgHBA
	}
	return p
}

// configure brings what the local Postgres has nearer to the document. What takes time is done beside the loop, one thing
// at a time, and only while nothing else is to be done with Postgres.
func (a *agent) configure(ctx context.Context, state fsm.State) {
	c, now := &a.conf, guard.Now()
	if state.Config.Version == 0 {
		return
	}
	if c.began == 0 {
		c.began = now
	}
	if file := a.file.Load(); c.version != state.Config.Version || c.file != file {
		if c.file != file {
			c.tryNow()
		}
		c.version, c.file, c.unread = state.Config.Version, file, ""
		d, err := config.ReadDCS([]byte(state.Config.Doc))
		if err != nil {
			c.unread = err.Error()
		} else {
			c.wanted = a.parameters(c.version, d)
		}
	}
	if c.wanted.Version == 0 {
		return
	}
	a.order(state, now)
	runs := a.have.Run == pg.RunStandby || a.have.Run == pg.RunPrimary
	calm := runs && a.lastStep.Kind == pgctl.Nothing || a.have.Run == pg.RunStopped || a.have.Run == pg.RunAbsent
	taken, _ := a.postgres.Parameters()
	if give := calm && c.mayTry(now) && !(taken.Version == c.wanted.Version && taken.Equal(c.wanted)); give && c.begin() {
		c.lookAt = now + surveySoon
		go a.give(ctx, c.wanted)
	} else if runs && (now >= c.lookAt || c.surveyed(a.have.GuardRun) == pg.HotStandby{}) && c.begin() {
		c.lookAt = now + surveyEvery
		go a.survey(ctx, a.have.GuardRun)
	}
}

// begin takes the one place for work beside the loop.
func (c *configuring) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.busy
	c.busy = true
	return !was
}

// mayTry lets what was refused rest for a while, but not a newer document.
func (c *configuring) mayTry(now time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now >= c.tryAt || c.tried != c.wanted.Version
}

// tryNow lets settings of the same version, which come from a file that was read again, be given at once.
func (c *configuring) tryNow() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tryAt = 0
}

// settingsGiven says that Postgres was given the newest document, whether it took it or not.
func (a *agent) settingsGiven() bool {
	taken, _ := a.postgres.Parameters()
	c := &a.conf
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.unread != "" || c.version > 0 && (taken.Version == c.version || c.tried == c.version && c.refused != "")
}

// surveyed is what run runs with, zero while that is not known.
func (c *configuring) surveyed(run uint64) pg.HotStandby {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of != run {
		return pg.HotStandby{}
	}
	return c.survey.Hot
}

// give has Postgres take the settings.
func (a *agent) give(ctx context.Context, p pgctl.Parameters) {
	ctx, cancel := context.WithTimeout(ctx, settingsBox)
	defer cancel()
	err := a.postgres.SetParameters(ctx, p)
	c := &a.conf
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.refused
	c.busy, c.refused, c.tried, c.tryAt = false, "", p.Version, guard.Now()+settingsRetry
	if errors.Is(err, pgctl.ErrNotRunning) {
		c.tryAt = guard.Now() + settingsSoon
	}
	if err != nil {
		if c.refused = err.Error(); c.refused != before {
			a.log.Warn("settings not taken; the ones before stay", "version", p.Version, "error", err)
		}
	}
	a.poke()
}

// survey asks the server what it runs with.
func (a *agent) survey(ctx context.Context, run uint64) {
	ctx, cancel := context.WithTimeout(ctx, statusBox)
	defer cancel()
	found, err := a.postgres.Survey(ctx)
	c := &a.conf
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	if err != nil {
		a.log.Debug("the server's settings could not be looked at", "error", err)
		return
	}
	c.survey, c.of = found, run
}

// order puts those values of the settings that standbys must match into the file which may stand there now.
func (a *agent) order(state fsm.State, now time.Duration) {
	o := ordering(state, a.cluster.Self(), a.cluster.Sightings())
	if o.Primary && now-a.conf.began < a.timing.FailoverAfter {
		return // it may not have heard yet what the standbys run with
	}
	o.Wanted, o.Control = a.conf.wanted.Set, a.have.Dir.Control.HotStandby()
	o.Running = a.conf.surveyed(a.have.GuardRun)
	if a.have.Run != pg.RunStandby && a.have.Run != pg.RunPrimary {
		o.Running = pg.HotStandby{}
	}
	file, held := o.Decide()
	a.conf.held = nil
	for _, h := range held {
		a.conf.held = append(a.conf.held, h.Because)
	}
	if _, has := a.postgres.Parameters(); has == file {
		return
	}
	if err := a.postgres.SetHotStandby(file); err != nil {
		a.log.Warn("the settings for the next start could not be written", "error", err)
		return
	}
	a.conf.lookAt = now + surveySoon
}

// ordering is what the reports of the others say about the order.
func ordering(state fsm.State, self fsm.NodeID, seen map[fsm.NodeID]failover.Sighting) pgctl.Ordering {
	o := pgctl.Ordering{Primary: state.Primary == self, Standbys: map[string]pg.HotStandby{}}
	fresh := time.Duration(state.Config.Settings.FailoverAfterMS) * time.Millisecond
	for id, m := range state.Members {
		s, heard := seen[id]
		if id == self || !heard || m.Role != fsm.RoleData {
			continue
		}
		if id == state.Primary {
			o.Upstream = s.Report.Config.Hot // an old one is better than none
		} else if s.Age <= fresh {
			o.Standbys[m.Name] = s.Report.Config.Hot
		}
	}
	return o
}

// configured is what the node says of all this in its beats.
func (a *agent) configured() failover.Configured {
	taken, _ := a.postgres.Parameters()
	c := &a.conf
	out := failover.Configured{Version: taken.Version, Held: c.held, Restart: a.restart.announced > 0}
	c.mu.Lock()
	defer c.mu.Unlock()
	if taken.Version != c.version || c.unread != "" {
		out.Refused = c.refused
	}
	if c.unread != "" {
		out.Refused = c.unread
	}
	if c.of == a.have.GuardRun && (a.have.Run == pg.RunStandby || a.have.Run == pg.RunPrimary) {
		out.Hot, out.Pending = c.survey.Hot, slices.Clone(c.survey.Pending)
	}
	return out
}

// pendingRestart is the part of that which is only for people.
func (a *agent) pendingRestart() map[string]api.PendingRestart {
	c := &a.conf
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]api.PendingRestart{}
	if c.of == a.have.GuardRun {
		for _, name := range c.survey.Pending {
			out[name] = api.PendingRestart{Old: c.survey.Running[name], New: c.wanted.Set[name]}
		}
	}
	return out
}

// readConfig makes a document of what a person sent, and asks the local postgres program whether it could start with it.
func (n *Node) readConfig(ctx context.Context, present string, edit []byte, merge bool) (string, fsm.Settings, error) {
	bad := func(err error) (string, fsm.Settings, error) {
		return "", fsm.Settings{}, fmt.Errorf("%w: %w", api.ErrDocument, err)
	}
	var d config.DCS
	var err error
	if merge {
		d, err = config.Merge(present, edit)
	} else {
		d, err = config.ReadDCS(edit)
	}
	if err != nil {
		return bad(err)
	}
	for _, w := range d.Warnings { // The answer is the document, as with Patroni, so this is where it can be said.
		n.log.Warn("a key of the configuration that was sent is not followed", "key", w.Key, "because", w.Text)
	}
	if now, err := config.ReadDCS([]byte(present)); err == nil && now.FailoverAfter != d.FailoverAfter {
		return bad(fmt.Errorf("failover_after is %s and can't be changed in a running cluster", time.Duration(now.FailoverAfter)))
	}
	if n.postgres != nil {
		ctx, cancel := context.WithTimeout(ctx, checkBox)
		defer cancel()
		if err := n.postgres.CheckParameters(ctx, n.parameters(0, d)); errors.Is(err, pgctl.ErrParameters) {
			return bad(err)
		} else if err != nil {
			n.log.Warn("settings could not be checked before they are replicated; every node checks them again", "error", err)
		}
	}
	doc, err := d.Doc()
	return doc, d.Settings(), err
}
