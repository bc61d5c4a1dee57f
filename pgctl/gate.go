package pgctl

import (
	"context"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
)

// Copy says that another member's log holds everything of Timeline up to LSN, durably.
type Copy struct {
	Name     string // node name
	Timeline pg.Timeline
	LSN      pg.LSN
}

// shared reports whether so many others hold the log of timeline tli up to end that no failover can take any of it back:
// as many as each commit here waits for. Those are members of D, and with this node's copy they are K: every election has
// the position of one of them (lease.md rule 14). Replication to end counts as much as what is known of others' disks.
func shared(want Want, have Status, tli pg.Timeline, end pg.LSN) bool {
	if !gates {
		return true
	}
	holds := map[string]bool{}
	for _, c := range want.Copies {
		if c.Timeline == tli && c.LSN >= end {
			holds[c.Name] = true
		}
	}
	for _, s := range have.Senders {
		if s.Streaming && s.Flush >= end {
			holds[s.Name] = true
		}
	}
	copies := 0
	for _, name := range want.Sync.Names {
		if holds[strings.ToLower(name)] {
			copies++
		}
	}
	return copies >= want.Sync.K
}

// logEnd is the end of a stopped directory's log as far as clients could ever have written: what follows the beginning of a
// shutdown checkpoint is that record.
func logEnd(have Status) pg.LSN {
	if have.Position == nil || have.Dir.Control.State == pg.ControlShutDown && have.Dir.Control.CheckpointTimeline == have.Position.Timeline {
		return have.Dir.Control.Checkpoint
	}
	return have.Position.LSN
}

// readable says whether clients may read a log that nothing is added to, with no server or a read-only one on it.
func readable(want Want, have Status) bool {
	return have.Position != nil && shared(want, have, have.Position.Timeline, readEnd(have))
}

// readEnd is the end of what clients can read in a log that nothing is added to.
func readEnd(have Status) pg.LSN {
	end := logEnd(have)
	if p := have.Position; p != nil && p.Shown > 0 {
		end = min(end, p.Shown)
	}
	return end
}

// opens is the step that lets clients in again, once that is safe.
func opens(want Want, have Status) (Step, bool) {
	if !have.Gated || have.Opened == 0 || !shared(want, have, have.Timeline, have.Opened) {
		return Step{}, false
	}
	return Step{Kind: OpenGate, Because: fmt.Sprintf("%d others hold its log up to %s", want.Sync.K, have.Opened)}, true
}

// gateLines end the hba file while the gate is closed.
const gateLines = "# Clients are kept out until enough other members hold what they could read here.\nlocal all all reject\nhost all all all reject\n"

// gateStart decides for the next start whether clients are let in from its first moment.
func (i *Instance) gateStart(closed bool) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	l, _, _ := i.snapshot()
	if l.Gated == closed || i.running() {
		return nil // the start itself refuses what runs
	}
	l.Gated = closed
	return i.setLive(l)
}

// closeGate keeps new clients out of a running server, ends the sessions of those who are in, and returns when none is left
// nor can become one. That the gate is closed is durable before anything else, so that an agent which ends here leaves it
// to the next one. The caller holds i.mu.
func (i *Instance) closeGate(ctx context.Context) error {
	l, _, _ := i.snapshot()
	l.Gated = true
	if err := i.setLive(l); err != nil {
		return err
	}
	if err := i.writeServerFiles(); err != nil {
		return err
	}
	if err := i.deps.Guard.Signal("SIGHUP"); err != nil {
		return fmt.Errorf("close the gate: %w", err)
	}
	// Whatever is forked after the process that answers here obeys the new file (docs/decisions/0003).
	if err := i.forks(ctx); err != nil {
		return fmt.Errorf("close the gate: %w", err)
	}
	postmaster := i.deps.Guard.Record().PID
	before, err := childrenOf(postmaster)
	if err != nil {
		return err
	}
	for {
		arriving, err := i.endArriving(postmaster, before)
		if err != nil {
			return err
		}
		// Second, because what has ended its authentication is in the view by now.
		sessions, err := i.execValue(ctx, fmt.Sprintf(endSessions, pg.QuoteLiteral(AgentRole), pg.QuoteLiteral(i.cfg.Replication.Name)))
		if err != nil {
			return fmt.Errorf("end the sessions of clients: %w", err)
		}
		if arriving == 0 && sessions == "0" {
			i.log.Warn("the gate is closed: clients are kept out until enough other members hold the log")
			return nil
		}
		if err := pause(ctx, pollEvery); err != nil {
			return fmt.Errorf("wait until no client is left (%s sessions, %d connecting): %w", sessions, arriving, err)
		}
	}
}

// endSessions ends every session that could read, and counts them; its operands are the agent's role and the one for
// replication. The walsenders of members stay: they make the copies that all this waits for.
const endSessions = `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE backend_type = 'client backend' AND usename <> %[1]s OR backend_type = 'walsender' AND usename NOT IN (%[1]s, %[2]s)`

// endArriving ends those of the postmaster's children whose client has not been let in yet, which no view shows, and
// counts them with those that have not said what they are.
func (i *Instance) endArriving(postmaster int, children []int) (int, error) {
	own, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", postmaster))
	if err != nil {
		return 0, fmt.Errorf("read the postmaster's title: %w", err)
	}
	count := 0
	for _, pid := range children {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || parentOf(pid) != postmaster {
			continue // it ended
		}
		if string(title) == string(own) {
			count++ // it may be anything: signalled now, what is no client could end the server
			continue
		}
		if !isArriving(string(title), i.cfg.clusterName()) {
			continue
		}
		count++
		arriving := func(title string) bool { return isArriving(title, i.cfg.clusterName()) }
		if _, err := signalIf(pid, postmaster, unix.SIGTERM, arriving); err != nil {
			return 0, err
		}
	}
	return count, nil
}

// isArriving reads a process title such as "postgres: main/n1: app app 10.0.0.9(4711) authentication". The agent's own are
// none.
func isArriving(title, clusterName string) bool {
	duty := strings.TrimRight(dutyOf(title, clusterName), " \x00")
	if strings.HasPrefix(duty, AgentRole+" ") {
		return false
	}
	for _, doing := range []string{" authentication", " startup", " initializing"} {
		if strings.HasSuffix(duty, doing) {
			return true
		}
	}
	return false
}

// OpenGate lets clients in. The file comes first and the record last: whoever finds the record closed does both again.
func (i *Instance) OpenGate(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	l, _, _ := i.snapshot()
	if !l.Gated {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("open the gate: %w", err)
	}
	l.Gated = false
	files, err := i.serverFiles(l)
	if err != nil {
		return err
	}
	if err := i.writeFiles(files); err != nil {
		return err
	}
	if i.running() {
		if err := i.deps.Guard.Signal("SIGHUP"); err != nil {
			return fmt.Errorf("open the gate: %w", err)
		}
	}
	if err := i.setLive(l); err != nil {
		return err
	}
	i.log.Info("the gate is open")
	return nil
}

// gatedBecause says what clients wait for.
func gatedBecause(want Want, end pg.LSN) string {
	return fmt.Sprintf("clients are kept out until %d of %s hold its log up to %s", want.Sync.K, strings.Join(want.Sync.Names, ", "), end)
}
