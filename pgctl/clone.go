package pgctl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"time"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// plan is the content of clone.bin: a destructive step is written down before it is begun, and each of its parts can be
// done again.
type plan struct {
	Phase   phase    `json:"phase"`
	Because string   `json:"because"`
	Source  Upstream `json:"source"`
	New     string   `json:"new"` // where the copy is made
	Old     string   `json:"old"` // where the present directory is kept
	Note    string   `json:"note"`
	// Discard is the log that the copy is not expected to have, kept as evidence before anything else is done.
	Discard *discard `json:"discard,omitempty"`
	// Local is the end of the present directory's log, if the directory can be run. What the copy really lacks of it is known
	// when the copy is whole: its source may be another one by then, or have opened a timeline that this node had not heard of.
	Local *Position `json:"local,omitempty"`
	// Quarantine says that Old is not to be run again.
	Quarantine bool `json:"quarantine,omitempty"`
	// Ours says that the present directory was this node's when the plan was made. Any other stays foreign until the copy is whole.
	Ours bool `json:"ours,omitempty"`
	// Anew says that the copy was asked for in the place of a directory that was gone. One that is back is not replaced by it: nobody
	// has looked at its log. Rebuilding is whether that log was being rebuilt already.
	Anew       bool `json:"anew,omitempty"`
	Rebuilding bool `json:"rebuilding,omitempty"`
}

// manages says that a node with such a plan runs what is in its place.
func (p plan) manages() bool { return p.Ours || p.Phase == phaseCopied || p.Phase == phaseDone }

type phase string

const (
	phaseCopying phase = "copying" // New is partial and ours to discard
	phaseCopied  phase = "copied"  // New is whole and durable; only names are left to change
	phaseDone    phase = "done"
)

// cloning is a clone that runs in its own goroutine.
type cloning struct {
	source Upstream
	cancel context.CancelFunc
	ended  chan struct{}
	bytes  int64 // guarded by Instance.facts
	// failed keeps the slot busy for a while after a failure, so that a source that refuses isn't asked all the time.
	failed string
}

const (
	cloneBackoff  = 2 * time.Second
	progressEvery = 5 * time.Second
)

func (c *cloning) state() *CloneState {
	return &CloneState{Source: c.source, Running: true, Bytes: c.bytes, Note: c.failed}
}

// StartClone begins to replace the data directory by a copy of u's, or resumes what an earlier agent began, and returns at
// once; Status shows it. The copy is made in PGDATA.new.<time>; at its end PGDATA becomes PGDATA.diverged.<time>, which is
// never removed, and the copy PGDATA. Before anything is touched it is durable that this node has no position to report,
// until Settle. The slot of this node must exist at u.
func (i *Instance) StartClone(u Upstream, because string) error {
	return i.startClone(Step{Kind: Clone, Upstream: u, Because: because})
}

// startClone also keeps the log of a directory that diverged as Evidence first. After Quarantine the old directory is
// PGDATA.quarantine.<time> and has a file QUARANTINE that says why.
func (i *Instance) startClone(s Step) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.running() {
		return fmt.Errorf("clone: %w", ErrRunning)
	}
	var busy bool
	i.note(func() { busy = i.clone != nil || i.rewind != nil })
	if busy {
		return nil
	}
	if i.foreign() {
		if err := i.nobodyElse(); err != nil {
			return fmt.Errorf("clone: %w", err)
		}
	}
	if text := i.gone(); text != "" && !s.Anew { // it vanished since Status looked
		return fmt.Errorf("clone: %w: %s", ErrNoData, text)
	}
	if err := i.keepReturned(s); err != nil {
		return fmt.Errorf("clone: %w", err)
	}
	p, err := i.planClone(s)
	if err != nil {
		return fmt.Errorf("plan the clone: %w", err)
	}
	// On a new node the password file was written before the password was known.
	if err := i.writeServerFiles(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	c := &cloning{source: p.Source, cancel: cancel, ended: make(chan struct{})}
	i.note(func() { i.clone, i.cached = c, nil })
	go i.runClone(ctx, c, p)
	return nil
}

// keepReturned refuses a copy in the place of a directory that is back, and gives up the plan of one: the directory is again what it was.
func (i *Instance) keepReturned(s Step) error {
	_, m, _ := i.snapshot()
	if m.plan == nil || !i.returned(m.plan) {
		if s.Anew && !i.dirEmpty() {
			return i.isBack()
		}
		return nil
	}
	if err := os.RemoveAll(m.plan.New); err != nil {
		return fmt.Errorf("discard a copy that is not used: %w", err)
	}
	if err := i.setRebuild(m.plan.Rebuilding, m.plan.Because); err != nil {
		return err
	}
	done := *m.plan
	done.Phase = phaseDone
	return errors.Join(i.isBack(), i.setPlan(done), i.keepHome())
}

// returned says that p is to make a copy where nothing was, and something is there that is not the copy.
func (i *Instance) returned(p *plan) bool {
	if !p.Anew || i.dirEmpty() {
		return false
	}
	_, err := os.Lstat(p.New)
	return p.Phase == phaseCopying || p.Phase == phaseCopied && err == nil
}

func (i *Instance) isBack() error {
	return fmt.Errorf("%w: %s was gone when a copy in its place was asked for, and is back. It is not replaced; if it shall be, ask again: quorate reinit %s",
		ErrNotEmpty, i.cfg.DataDir, i.cfg.Name)
}

// CancelClone ends a running copy and returns when it has ended. A copy that is whole is put in place all the same.
func (i *Instance) CancelClone() {
	var c *cloning
	i.note(func() { c = i.clone })
	if c != nil {
		c.cancel()
		<-c.ended
	}
}

// planClone writes down what will be done: first that the log is no longer to be reported, then how it is replaced. An
// unfinished plan is taken up, from another source if need be.
func (i *Instance) planClone(s Step) (plan, error) {
	_, m, _ := i.snapshot()
	p := plan{Phase: phaseCopying, Because: s.Because, Source: s.Upstream}
	if m.plan != nil && !(s.Anew && m.plan.Phase == phaseCopied) { // else the copy that was whole is gone too
		p = *m.plan
		if p.Phase == phaseCopying {
			p.Source, p.Note = s.Upstream, ""
		}
		if s.Anew && p.Discard != nil {
			i.log.Warn("log that was to be kept as evidence is gone with the data directory", "from", p.Discard.From.String(), "to", p.Discard.To.String())
			p.Discard = nil
		}
	} else {
		stamp := time.Now().UTC().Format("20060102T150405.000")
		p.New, p.Old = i.cfg.DataDir+".new."+stamp, i.cfg.DataDir+".diverged."+stamp
		i.note(func() { p.Ours, p.Rebuilding = i.managed, i.marks.rebuild })
		if p.Quarantine = s.Kind == Quarantine; p.Quarantine {
			p.Old = i.cfg.DataDir + ".quarantine." + stamp
		}
		if !p.Quarantine { // the end of a damaged log may be from before the damage
			i.note(func() { p.Local = i.cached })
		}
		if s.Diverged {
			d, err := i.discarded(s.Upstream.Epoch, s.Fork, "clone")
			if err != nil {
				return plan{}, err
			}
			p.Discard = &d
		}
	}
	p.Anew = p.Anew || s.Anew
	if err := i.setRebuild(true, p.Because); err != nil {
		return plan{}, err
	}
	if err := i.setPlan(p); err != nil {
		return plan{}, err
	}
	if s.Anew { // after the plan: a crash before it leaves a directory that is missed still
		return p, i.setHome(home{})
	}
	return p, nil
}

func (i *Instance) setRebuild(active bool, because string) error {
	if l, _, _ := i.snapshot(); active && l.Own > 0 {
		l.Own = 0
		if err := i.setLive(l); err != nil {
			return err
		}
	}
	if err := durable.Save(i.cfg.own(rebuildRecord), recordVersion, rebuildMark{Active: active, Because: because}); err != nil {
		return fmt.Errorf("record whether the log is being rebuilt: %w", err)
	}
	i.note(func() { i.marks.rebuild = active })
	return nil
}

func (i *Instance) setPlan(p plan) error {
	if err := durable.Save(i.cfg.own(planRecord), recordVersion, p); err != nil {
		return fmt.Errorf("record the plan: %w", err)
	}
	i.note(func() {
		i.marks.plan, i.managed = &p, i.managed || p.manages()
		if p.Phase == phaseDone {
			i.marks.plan = nil
		}
	})
	return nil
}

// runClone carries the plan out. After a failure it waits a moment, so that whoever tries again doesn't do so at once.
func (i *Instance) runClone(ctx context.Context, c *cloning, p plan) {
	defer close(c.ended)
	began := time.Now()
	i.log.Info("clone begins", "source", p.Source.Name, "because", p.Because, "into", p.New, "phase", string(p.Phase))
	err := i.carryOut(ctx, c, p)
	if err != nil {
		i.log.Error("clone failed", "source", p.Source.Name, "error", err)
		p.Note = err.Error()
		i.note(func() {
			c.failed = p.Note
			if i.marks.plan != nil {
				i.marks.plan.Note = p.Note
			}
		})
		_ = pause(ctx, cloneBackoff) // cut short by CancelClone
	} else {
		i.log.Info("clone is in place", "source", p.Source.Name, "took", time.Since(began).Round(time.Millisecond))
	}
	// Positions seen in the old directory say nothing about the new one.
	i.note(func() { i.clone, i.cached, i.seen.lsn, i.seen.walGone = nil, nil, 0, false })
}

// carryOut does the steps that the plan's phase has left.
func (i *Instance) carryOut(ctx context.Context, c *cloning, p plan) error {
	for _, s := range i.cloneSteps(c) {
		if s.phase == "" || s.phase == p.Phase {
			if err := s.do(ctx, &p); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	return nil
}

// cloneStep is a part that can be done again after a crash in its middle or at its end.
type cloneStep struct {
	name  string
	phase phase // done only in this phase of the plan; empty: always
	do    func(context.Context, *plan) error
}

func (i *Instance) cloneSteps(c *cloning) []cloneStep {
	return []cloneStep{
		{"keep evidence", phaseCopying, func(ctx context.Context, p *plan) error {
			if p.Discard == nil {
				return nil
			}
			return i.keepEvidence(ctx, *p.Discard, p.Because)
		}},
		{"discard a partial copy", phaseCopying, func(_ context.Context, p *plan) error { return os.RemoveAll(p.New) }},
		{"copy", phaseCopying, func(ctx context.Context, p *plan) error { return i.copyFrom(ctx, c, p) }},
		{"make the copy a standby", phaseCopying, func(_ context.Context, p *plan) error { return i.finishCopy(p.New) }},
		{"record that the copy is whole", phaseCopying, func(_ context.Context, p *plan) error {
			p.Phase = phaseCopied
			return i.setPlan(*p)
		}},
		{"keep as evidence what the copy lacks", phaseCopied, i.keepLacking},
		{"keep the old directory", phaseCopied, func(_ context.Context, p *plan) error { return i.keepOld(p) }},
		{"make known what was set aside", phaseCopied, func(_ context.Context, p *plan) error {
			if !p.Quarantine {
				return nil
			}
			if _, err := os.Lstat(p.Old); errors.Is(err, fs.ErrNotExist) {
				return nil // there was nothing to set aside
			} else if err != nil {
				return err
			}
			return i.keepAside(p.Source.Epoch, p.Old, p.Because)
		}},
		{"put the copy in place", phaseCopied, func(_ context.Context, p *plan) error { return i.placeCopy(p) }},
		{"record that it is done", phaseCopied, func(_ context.Context, p *plan) error {
			if err := i.endRewind(); err != nil { // it was about the old directory
				return err
			}
			p.Phase = phaseDone
			return i.setPlan(*p)
		}},
	}
}

// copyFrom runs pg_basebackup, which syncs what it wrote.
func (i *Instance) copyFrom(ctx context.Context, c *cloning, p *plan) error {
	if err := i.makeDir(p.New, 0o700, true); err != nil {
		return err
	}
	cmd := i.program(ctx, "pg_basebackup", "-D", p.New, "-d", conninfo(i.cfg, p.Source, i.cfg.besides("clone")),
		"--wal-method=stream", "--slot="+p.Source.Slot, "--checkpoint=fast", "--no-password", "--progress")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return fmt.Errorf("read from pg_basebackup: %w", err)
	}
	// See runProgram for the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("run pg_basebackup: %w", err)
	}
	normalPriority(cmd)
	said := i.progress(c, stderr)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("run pg_basebackup: %w: %s", err, tail(said))
	}
	return nil
}

// progress follows what pg_basebackup says until it ends and returns what was not progress.
func (i *Instance) progress(c *cloning, from io.Reader) string {
	line := regexp.MustCompile(`^\s*(\d+)/(\d+) kB \(\d+%\)`)
	lines := bufio.NewScanner(from)
	lines.Split(splitProgress)
	var said bytes.Buffer
	var shown time.Time
	for lines.Scan() {
		m := line.FindStringSubmatch(lines.Text())
		if m == nil {
			if said.Len() < 1<<16 {
				said.WriteString(lines.Text() + "\n")
			}
			continue
		}
		done, err := strconv.ParseInt(m[1], 10, 64)
		if err != nil {
			continue
		}
		i.note(func() { c.bytes = done << 10 })
		if time.Since(shown) >= progressEvery {
			shown = time.Now()
			i.log.Info("cloning", "source", c.source.Name, "kB", m[1], "of_kB", m[2])
		}
	}
	return said.String()
}

// splitProgress ends a token at a line feed or a carriage return.
func splitProgress(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if n := bytes.IndexAny(data, "\r\n"); n >= 0 {
		return n + 1, data[:n], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// finishCopy gives the copy this node's settings instead of the source's, with nobody to follow yet.
func (i *Instance) finishCopy(dir string) error {
	l, _, _ := i.snapshot()
	l.Upstream = Upstream{}
	if err := i.writeAutoConf(filepath.Join(dir, "postgresql.auto.conf"), l.settings(i.cfg, 0)); err != nil {
		return err
	}
	if err := i.writeFile(filepath.Join(dir, "standby.signal"), nil); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dir))
}

// keepLacking compares the log of the present directory with the copy's history.
func (i *Instance) keepLacking(ctx context.Context, p *plan) error {
	content, err := os.ReadFile(filepath.Join(p.New, "global", "pg_control"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // the copy is in place, and this was done before
	}
	if err != nil {
		return fmt.Errorf("read pg_control of the copy: %w", err)
	}
	control, err := pg.ParseControl(content)
	if err != nil {
		return fmt.Errorf("read pg_control of the copy: %w", err)
	}
	copied, err := branchOf(control, filepath.Join(p.New, "pg_wal"))
	if err != nil {
		return fmt.Errorf("find where the copy's history comes from: %w", err)
	}
	d, lacks := p.lacks(copied)
	if _, err := os.Lstat(p.Old); lacks && err == nil && i.dirEmpty() {
		return nil // the next part has set it aside, after this one was done
	}
	if lacks && i.dirEmpty() {
		i.log.Warn("log that the copy lacks can't be kept as evidence: the old data directory was taken away", "from", d.From.String(), "to", d.To.String())
		return nil
	}
	if !lacks {
		return nil
	}
	return i.keepEvidence(ctx, d, p.Because)
}

// lacks is the log of the present directory that is neither in the copy's history nor kept as evidence yet.
func (p plan) lacks(copied rejoin.Branch) (discard, bool) {
	if p.Local == nil {
		return discard{}, false
	}
	fork, forked := rejoin.Fork(p.Local.Branch(), copied)
	if !forked || p.Local.LSN <= fork {
		return discard{}, false
	}
	d := p.Local.from(p.Source.Epoch, fork, "clone")
	return d, p.Discard == nil || p.Discard.From > d.From
}

// keepOld renames the present directory. After a crash the name may have changed already.
func (i *Instance) keepOld(p *plan) error {
	if i.dirEmpty() {
		return nil
	}
	if _, err := os.Stat(p.New); errors.Is(err, fs.ErrNotExist) {
		return nil // the copy is in place: what is there now is the copy
	}
	if i.returned(p) {
		return i.isBack()
	}
	if _, err := os.Lstat(p.Old); err == nil {
		return fmt.Errorf("%s is there already, and so are %s and %s: %w; move one away", p.Old, i.cfg.DataDir, p.New, ErrNotEmpty)
	}
	if !p.Ours { // and somebody may have started his server since the copy was begun
		if err := i.nobodyElse(); err != nil {
			return err
		}
	}
	if p.Quarantine {
		if err := i.writeFile(filepath.Join(i.cfg.DataDir, "QUARANTINE"), []byte(p.Because+"\n")); err != nil {
			return fmt.Errorf("say why the old directory is set aside: %w", err)
		}
	}
	if err := os.Rename(i.cfg.DataDir, p.Old); err != nil {
		return fmt.Errorf("%w (data_dir must be a directory inside a mount, not the mount itself)", err)
	}
	i.log.Info("kept the old data directory", "as", p.Old)
	return syncDir(filepath.Dir(i.cfg.DataDir))
}

// placeCopy renames the copy.
func (i *Instance) placeCopy(p *plan) error {
	if _, err := os.Stat(p.New); errors.Is(err, fs.ErrNotExist) {
		if i.dirEmpty() {
			return fmt.Errorf("neither %s nor %s is there: %w", p.New, i.cfg.DataDir, ErrNoData)
		}
		return nil
	}
	return i.install(p.New)
}
