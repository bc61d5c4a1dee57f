package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// Errors of Instance. Others are wrapped errors of the operating system, of Postgres or of the guard.
var (
	// ErrServing says that Postgres runs as a primary (or isn't known not to), so that its log still grows.
	ErrServing = errors.New("postgres is not in recovery")
	// ErrRebuilding says that the local log is being rebuilt, so that it has no position to report (lease.md rule 20).
	ErrRebuilding = errors.New("the local log is being rebuilt")
	// ErrNoData says that there is no data directory.
	ErrNoData = errors.New("there is no data directory")
	// ErrNoLease says that the lease for the epoch isn't held, or not long enough to begin.
	ErrNoLease = errors.New("the lease is not held")
	// ErrDetached says that this node has detached from that epoch or a later one and never follows it again.
	ErrDetached = errors.New("detached from that epoch for good")
	// ErrNotRunning says that the step needs a running Postgres.
	ErrNotRunning = errors.New("postgres is not running")
	// ErrRunning says that the step needs a stopped Postgres.
	ErrRunning = errors.New("postgres is running")
	// ErrStopTimeout says that Postgres was asked to shut down and did not within the time given; it still may.
	ErrStopTimeout = errors.New("postgres did not shut down in time")
	// ErrNotEmpty says that a directory which must be new has something in it.
	ErrNotEmpty = errors.New("the directory is not empty")
)

// Guard is what pgctl needs of the process that owns the postmaster; guard.Client is one.
type Guard interface {
	Start(guard.StartRequest) (run uint64, pid int, err error)
	Signal(name string) error
	Record() guard.View
	Set(v guard.Verdict, epoch uint64, deadline time.Duration) bool
	WaitEmpty(context.Context) error
}

// Deps are what the node gives an Instance.
type Deps struct {
	Guard Guard
	// Lease returns the epoch whose lease is held and its end less the margin, a value of guard.Now; (0, 0) without
	// one. It is called at the moment when a primary is started or promoted.
	Lease  func() (epoch uint64, deadline time.Duration)
	Logger hclog.Logger
}

// Member is another node, as far as replication needs it.
type Member struct {
	Name string
	Host string // as in its connect_address: a name or an address
	Slot string // SlotName of it
}

// Instance is the local Postgres. All methods may be called by any goroutine; steps wait for each other, but neither
// Status nor Detach ever waits for a clone, for a start or for a proof that a setting is in force.
type Instance struct {
	cfg  Config
	deps Deps
	log  hclog.Logger
	cred *guard.Credential
	// major is the version of the programs in BinDir.
	major pg.MajorVersion

	mu  sync.Mutex // serialises the steps, owns ctl and the durable records on disk
	ctl *session

	statusMu sync.Mutex // owns the connection that Status uses
	watch    *session

	settingMu sync.Mutex // serialises SetParameters and CheckParameters; taken before mu

	found foundCache // used by Found only

	facts   sync.Mutex // guards all below; never held during I/O
	managed bool       // this node made the data directory or took it over
	params  accepted
	live    live
	marks   marks
	seen    seen
	clone   *cloning
	rewind  *rewinding
	pending []Evidence          // that the cluster does not know of
	names   map[string][]string // member name to its addresses
	members map[string]Member   // by name, as they were told last
	cached  *Position
	looked  looked
	drifts  driftWatch
	accused suspects  // ended, and not judged yet
	missing time.Time // when the agent's database was last found missing; zero: it is there
}

// looked is the last answer of the server to Status.
type looked struct {
	status Status
	at     time.Time
}

// live is the durable copy of the settings that change while Postgres runs.
type live struct {
	Upstream Upstream `json:"upstream"`
	Sync     Sync     `json:"sync"`
	Gated    bool     `json:"gated,omitempty"` // clients are kept out
	// Own is the timeline that this directory wrote itself as primary before it was last started read-only with nobody to
	// follow; 0: none, or it has followed somebody since. Nothing on it can come from elsewhere.
	Own pg.Timeline `json:"own,omitempty"`
	// Admitted says that the agent's SQL had worked on this directory before the last start.
	Admitted bool `json:"admitted,omitempty"`
}

// marks are the other durable records, as loaded.
type marks struct {
	detached uint64
	pausing  bool
	rebuild  bool
	plan     *plan
	rewind   *rewindPlan
	home     home
}

// seen is what was learned of the present run.
type seen struct {
	run        uint64
	logFrom    int64     // how long the log file was when it was started
	answered   bool      // SQL has worked in this run
	asked      bool      // it was asked to stop
	lsn        pg.LSN    // a position that was flushed or replayed here
	replayed   bool      // lsn is a replay position, so a record begins there
	followed   time.Time // last Follow or last time it was streaming
	walGone    bool
	needs      pg.LSN    // where the log that a starting server has ended at the last look; a record begins there
	crashed    bool      // a process of it died, and the rest was killed for that
	receiver   string    // pid of the walreceiver in the last Status
	promoting  time.Time // when it was told to open: from then on it may at any time; zero if it was not
	applied    Upstream  // in the settings of the running server
	configured bool
	// proved is the synchronous_standby_names that is known to be in force, when isProved.
	proved   string
	isProved bool
	owed     []string // members whose walsenders have to prove it
	opened   pg.LSN   // the first position seen after recovery, 0 before
}

// The durable records (DETAILS 37) and their version.
const (
	liveRecord     = "live.bin"
	detachedRecord = "detached.bin"
	rebuildRecord  = "rebuild.bin"
	planRecord     = "clone.bin"
	rewindRecord   = "rewind.bin"
	recordVersion  = 1
)

// detachedMark is the content of detached.bin.
type detachedMark struct {
	Epoch uint64 `json:"epoch"`
	// Pausing says that Detach may have paused replay: an agent that ended in that moment left it so.
	Pausing bool `json:"pausing"`
}

// rebuildMark is the content of rebuild.bin. Absent or not Active: the log is whole.
type rebuildMark struct {
	Active  bool   `json:"active"`
	Because string `json:"because"`
}

// Open reads the durable records, writes the files that Postgres reads and puts standby.signal back where a crash left
// it out (DETAILS 26), but not into a directory that this node has never managed. It starts and stops nothing. A damaged record is an error.
func Open(cfg Config, deps Deps) (*Instance, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cred, err := cfg.credential()
	if err != nil {
		return nil, err
	}
	i := &Instance{cfg: cfg, deps: deps, log: deps.Logger.Named("postgres"), cred: cred, names: map[string][]string{}}
	if i.major, err = BinaryVersion(i.cfg.BinDir); err != nil {
		return nil, err
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
		pg   bool
	}{{cfg.StateDir, 0o755, false}, {cfg.pgFile(""), 0o700, true}, {cfg.SocketDir, 0o755, true}} {
		if err := i.makeDir(dir.path, dir.mode, dir.pg); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(i.load(), i.loadParameters()); err != nil {
		return nil, err
	}
	if err := i.writeServerFiles(); err != nil {
		return nil, err
	}
	return i, i.adopt()
}

// load reads every durable record.
func (i *Instance) load() error {
	var err error
	if i.live, err = loadOr(i.cfg.own(liveRecord), live{}); err != nil {
		return err
	}
	detached, err := loadOr(i.cfg.own(detachedRecord), detachedMark{})
	if err != nil {
		return err
	}
	rebuild, err := loadOr(i.cfg.own(rebuildRecord), rebuildMark{})
	if err != nil {
		return err
	}
	p, err := loadOr(i.cfg.own(planRecord), plan{})
	if err != nil {
		return err
	}
	at, err := loadOr(i.cfg.own(homeRecord), home{})
	if err != nil {
		return err
	}
	i.marks = marks{detached: detached.Epoch, pausing: detached.Pausing, rebuild: rebuild.Active, home: at}
	if p.Phase != "" && p.Phase != phaseDone {
		i.marks.plan = &p
	}
	r, err := loadOr(i.cfg.own(rewindRecord), rewindPlan{})
	if err != nil {
		return err
	}
	if r.Phase != "" && r.Phase != rewindDone {
		i.marks.rewind = &r
	}
	return errors.Join(i.noteManaged(p), i.noticeEvidence())
}

// loadOr returns absent when nothing was ever saved.
func loadOr[T any](path string, absent T) (T, error) {
	v, err := durable.Load[T](path, recordVersion)
	if errors.Is(err, durable.ErrAbsent) {
		return absent, nil
	}
	return v, err
}

// adopt looks at what an earlier agent left: a postmaster under the guard, or a directory without standby.signal.
func (i *Instance) adopt() error {
	v := i.deps.Guard.Record()
	if i.dirEmpty() || i.foreign() {
		return nil
	}
	if !v.Gone() {
		// It runs; whether it took the signal file away to open for writing, it has read it by the time it answers.
		// A Postgres that is still starting then comes up read-only, which is the safe side.
		i.seen = seen{run: v.Run, followed: time.Now(), applied: i.live.Upstream, configured: true}
		if v.Verdict != guard.VerdictStandby {
			i.seen.promoting = time.Now()
		}
	}
	if err := i.putSignal(); err != nil {
		return err
	}
	// Over data of another system than the one that is missed nothing is forgotten.
	_, m, _ := i.snapshot()
	control, err := i.readControl()
	if err != nil || m.home.SystemID != 0 && m.home.SystemID != control.SystemID {
		return nil
	}
	if err := i.keepHome(); err != nil {
		i.log.Warn("if the data directory should vanish before Postgres is next started, this node won't miss it", "error", err)
	}
	return nil
}

// makeDir makes a directory if it is absent, for the user that Postgres runs as when pg is true.
func (i *Instance) makeDir(path string, mode os.FileMode, pg bool) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := os.MkdirAll(path, mode); err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	if err := os.Chmod(path, mode); err != nil { // the umask may have taken bits away
		return fmt.Errorf("set the mode of %s: %w", path, err)
	}
	if !pg {
		return nil
	}
	return i.give(path)
}

// give makes path belong to the user that Postgres runs as.
func (i *Instance) give(path string) error {
	if i.cred == nil {
		return nil
	}
	if err := os.Chown(path, int(i.cred.UID), int(i.cred.GID)); err != nil {
		return fmt.Errorf("give %s to os_user: %w", path, err)
	}
	return nil
}

// writeFile replaces a file that Postgres reads, durably, with mode 0600 and Postgres's user as owner.
func (i *Instance) writeFile(path string, content []byte) error {
	tmp := path + ".quorate-tmp"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("create %s: %w", tmp, err)
	}
	_, err = f.Write(content)
	err = errors.Join(err, i.give(tmp), f.Sync(), f.Close())
	if err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes what happened to the names in a directory survive a crash.
func syncDir(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s to sync it: %w", path, err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// setLive makes l durable before anything acts on it.
func (i *Instance) setLive(l live) error {
	if l.Upstream.Name != "" {
		l.Own = 0 // from here on log may come from there
	}
	if err := durable.Save(i.cfg.own(liveRecord), recordVersion, l); err != nil {
		return fmt.Errorf("record the live settings: %w", err)
	}
	i.facts.Lock()
	defer i.facts.Unlock()
	i.live, i.drifts.good, i.managed = l, nil, true
	return nil
}

// snapshot copies what the facts lock guards.
func (i *Instance) snapshot() (live, marks, seen) {
	i.facts.Lock()
	defer i.facts.Unlock()
	return i.live, i.marks, i.seen
}

// note changes what is known under the facts lock.
func (i *Instance) note(change func()) {
	i.facts.Lock()
	defer i.facts.Unlock()
	change()
}

// running reports whether a postmaster of ours has processes.
func (i *Instance) running() bool { return !i.deps.Guard.Record().Gone() }
