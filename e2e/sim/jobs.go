package sim

import (
	"fmt"
	"time"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// job is a clone or a rewind: a plan on disk that runs in the agent and is taken up by the next one. It mirrors
// pgctl/clone.go and rewind.go.
type job struct {
	kind    pgctl.StepKind
	source  pgctl.Upstream
	kept    bool // the evidence is on disk
	discard *pgctl.Evidence
	local   *pgctl.Position // of a clone: the end of the log that it replaces, if that can be run
	writing bool            // of a rewind: the files are of no time and no server
	written bool
	copied  place // of the source's log
	failed  bool
	note    string
	running bool
	serial  uint64
}

func (j *job) torn() bool { return j.writing && !j.running }

func (j *job) rewindState() *pgctl.RewindState {
	s := &pgctl.RewindState{Source: j.source, Running: j.running, Writing: j.writing, Torn: j.torn(), Note: j.note}
	switch {
	case j.failed:
		s.Over = "a rewind failed: " + j.note
	case j.written:
		s.Over = "it was rewound already"
	}
	return s
}

// startJob plans and begins. The mark that no position counts is durable before anything is touched.
func (a *agent) startJob(s pgctl.Step) error {
	d := &a.h.data
	if !a.h.keeper.Record().Gone() {
		return errRunning
	}
	if d.clone != nil && d.clone.running || d.rewind != nil && d.rewind.running {
		return nil
	}
	j := d.clone
	if s.Kind == pgctl.Rewind {
		j = d.rewind
	}
	if j != nil && s.Kind == pgctl.Rewind && (j.discard.From != max(s.Fork, 1) || d.cached == nil || j.discard.To != d.cached.LSN) {
		j = nil // a plan for the same log only is taken up
	}
	if j == nil {
		j = &job{kind: s.Kind}
		if s.Kind == pgctl.Clone {
			j.local = d.cached
		}
		if s.Kind == pgctl.Rewind || s.Diverged {
			if d.cached == nil {
				return errNoData
			}
			from := s.Fork
			if from == 0 {
				from = d.cached.Oldest
			}
			j.discard = a.evidence(s, from, d.cached.LSN, d.cached.Timeline)
		} else if s.Kind == pgctl.Quarantine && d.exists {
			j.discard = a.evidence(s, 0, 0, 0)
			j.discard.ID = a.h.name + "-quarantine-" + a.h.w.nextID() // the directory's name has its time in it
		}
	}
	j.source, j.note = s.Upstream, ""
	d.live.Own, d.rebuild = 0, true
	if s.Kind == pgctl.Rewind {
		d.rewind = j
	} else {
		d.clone, d.cached = j, nil
	}
	if a.h.w.tape != nil {
		a.h.w.say(a.h, string(s.Kind), "from %s: %s", s.Upstream.Name, s.Because)
	}
	j.running = true
	j.serial++
	a.runJob(j, j.serial)
	return nil
}

func (a *agent) evidence(s pgctl.Step, from, to pg.LSN, tli pg.Timeline) *pgctl.Evidence {
	way := string(s.Kind)
	return &pgctl.Evidence{
		ID:    fmt.Sprintf("%s-%d-%d-%X-%X", a.h.name, s.Upstream.Epoch, tli, uint64(from), uint64(to)),
		Epoch: s.Upstream.Epoch, Timeline: tli, From: from, To: to, Way: way, Path: "evidence", SHA256: "00",
	}
}

// runJob goes through the phases; each ends with what it did on disk.
func (a *agent) runJob(j *job, serial uint64) {
	w, d := a.h.w, &a.h.data
	mine := func() bool { return j.serial == serial && j.running }
	fail := func(why string) {
		j.note, j.running = why, false
		a.poke()
	}
	a.h.write(&a.process, func() {
		if j.discard != nil && !j.kept && w.opts.Without != MutEvidence {
			d.keep(*j.discard)
		}
		j.kept = true
	}, func() {
		copies := w.between(700*time.Millisecond, 3*time.Second)
		if j.kind == pgctl.Rewind {
			copies = w.between(200*time.Millisecond, 800*time.Millisecond)
		}
		a.h.later(&a.process, copies/2, func() {
			src := w.byName(j.source.Name)
			switch {
			case !mine():
			case !a.sourceServes(src):
				a.h.later(&a.process, 2*time.Second, func() { // the pause before another try
					if mine() {
						fail("the primary can't be asked")
					}
				})
			default:
				j.writing = j.kind == pgctl.Rewind
				j.copied = src.data.log.upTo(src.data.flushed)
				a.h.later(&a.process, copies/2, func() {
					if mine() {
						a.endJob(j, src, fail)
					}
				})
			}
		})
	})
}

func (a *agent) sourceServes(src *host) bool {
	return src != nil && src.server.phase == primary && !src.server.halted() && a.h.reaches(src)
}

// endJob puts what was made in place of what was there.
func (a *agent) endJob(j *job, src *host, fail func(string)) {
	d, w := &a.h.data, a.h.w
	if !a.sourceServes(src) {
		if j.writing {
			j.running = false // torn
			a.poke()
			return
		}
		fail("the primary ended")
		return
	}
	old := d.log
	have := src.data.log.upTo(src.data.flushed)
	if j.kind == pgctl.Rewind {
		if common(old, have).b == nil {
			j.writing, j.failed, j.note, j.running = false, true, "nothing in common", false
			a.poke()
			return
		}
		// pg_rewind copies pg_wal too; the files are of the moment when it ended.
		d.minRecovery, have = src.data.flushed, j.copied
	} else {
		d.minRecovery = have.lsn
		a.keepLacking(j, have)
	}
	// A directory that was never ours is kept whole under another name, and nobody reads its log.
	w.check.replaced(a.h, old, src.data.log, d.exists && !d.foreign, j)
	d.exists, d.foreign, d.sysid, d.signal, d.state = true, false, src.data.sysid, true, pg.ControlInArchiveRecovery
	d.log, d.flushed, d.cached = have, have.lsn, nil
	d.checkpoint, d.checkpointTLI = have.lsn, have.b.tli
	d.ctl, d.ctlAt = have.hotAt(have.lsn), have.lsn
	d.seen.walGone = false
	d.live.Upstream = pgctl.Upstream{}
	src.data.refuses[a.h.index] = false
	j.running, j.writing = false, false
	if j.kind == pgctl.Rewind {
		j.written = true
	} else {
		d.clone, d.rewind = nil, nil
	}
	a.poke()
}

// keepLacking mirrors pgctl's: what a whole copy lacks is told by the copy.
func (a *agent) keepLacking(j *job, copied place) {
	if j.local == nil || a.h.w.opts.Without == MutEvidence {
		return
	}
	b := copied.at(copied.lsn)
	fork, forked := rejoin.Fork(j.local.Branch(), rejoin.Branch{Timeline: b.tli, History: b.history})
	if !forked || j.local.LSN <= fork || j.discard != nil && j.discard.From <= max(fork, 1) {
		return
	}
	a.h.data.keep(*a.evidence(pgctl.Step{Kind: pgctl.Clone, Upstream: j.source}, max(fork, 1), j.local.LSN, j.local.Timeline))
}

// keep records evidence once.
func (d *instance) keep(e pgctl.Evidence) {
	for _, known := range d.evidence {
		if known.ID == e.ID {
			return
		}
	}
	d.evidence = append(d.evidence, e)
}

// cancelJob ends what runs. A rewind that was writing leaves a torn directory.
func (a *agent) cancelJob(kind pgctl.StepKind) {
	j := a.h.data.clone
	if kind == pgctl.CancelRewind {
		j = a.h.data.rewind
	}
	if j != nil {
		j.running = false
		j.serial++
	}
}
