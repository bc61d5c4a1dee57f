package guard

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// runEntry is guard.run: what Sweep needs when the guard is dead.
type runEntry struct {
	Boot   string `json:"boot"`
	Run    uint64 `json:"run"`
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"`
	Exe    string `json:"exe"`
	Dir    string `json:"dir"`
	Cgroup string `json:"cgroup"`
	Empty  bool   `json:"empty"`
}

// runBook writes guard.run, away from the deadline thread. It needs no fsync: its
// processes don't outlive the boot either.
type runBook struct {
	dir, boot, cgroup string
	log               hclog.Logger

	mu      sync.Mutex
	entry   runEntry
	emptied uint64 // the last run that was seen empty
}

// started writes the entry before the client hears of its run.
func (b *runBook) started(r StartRequest, st Status) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entry = runEntry{
		Boot: b.boot, Run: st.Run, PID: st.PID, Exe: r.Argv[0], Dir: r.Dir,
		Cgroup: b.cgroup, Empty: b.emptied >= st.Run,
	}
	if p, ok := readProc(st.PID); ok {
		b.entry.Start = p.start
	}
	if exe, err := filepath.EvalSymlinks(r.Argv[0]); err == nil {
		b.entry.Exe = exe
	}
	if dir, err := filepath.EvalSymlinks(r.Dir); err == nil {
		b.entry.Dir = dir
	}
	b.save()
}

// changed logs every state change and marks a run that is gone.
func (b *runBook) changed(st Status) {
	b.log.Info("state changed", "run", st.Run, "state", st.State, "pid", st.PID, "verdict", st.Verdict,
		"epoch", st.Epoch, "since", st.Since, "deadline", st.Deadline, "worst_lateness", st.WorstLateness,
		"fence_late", st.FenceLate, "exit", st.Exit(), "note", st.Note)
	if st.State != StateEmpty {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.emptied = st.Run
	if b.entry.Run == st.Run {
		b.entry.Empty = true
		b.save()
	}
}

func (b *runBook) save() {
	if err := saveRun(b.dir, b.entry); err != nil {
		b.log.Error("write the run file", "error", err)
	}
}

func saveRun(dir string, e runEntry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode %s: %w", runName, err)
	}
	path := filepath.Join(dir, runName)
	if err := os.WriteFile(path+".new", append(line, '\n'), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// readRun takes a missing or torn file for no run: the cgroup is swept whatever
// the file says.
func readRun(dir string) runEntry {
	var e runEntry
	b, err := os.ReadFile(filepath.Join(dir, runName))
	if err != nil || json.Unmarshal(b, &e) != nil {
		return runEntry{} // not what fitted of it
	}
	return e
}

func bootText(b [2]uint64) string { return fmt.Sprintf("%016x%016x", b[0], b[1]) }

// lockFile takes a lock that lasts as long as the returned file is open.
func lockFile(path string, held error) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", path, held)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// lockEntry is guard.lock: who holds it.
type lockEntry struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
	Boot  string `json:"boot"`
}

func (id identity) lines() lockEntry {
	return lockEntry{PID: id.pid, Start: id.start, Boot: bootText(id.boot)}
}

func writeJSON(f *os.File, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", f.Name(), err)
	}
	if err := f.Truncate(0); err != nil {
		return fmt.Errorf("truncate %s: %w", f.Name(), err)
	}
	if _, err := f.WriteAt(append(b, '\n'), 0); err != nil {
		return fmt.Errorf("write %s: %w", f.Name(), err)
	}
	return nil
}
