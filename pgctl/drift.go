package pgctl

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// errStillDiffers says that somebody changes a file as fast as it is put back.
var errStillDiffers = errors.New("it does not stay as it was written")

// driftShown is for how long Status tells what was wrong.
const driftShown = time.Minute

// print tells two states of a file apart without reading it.
type print struct {
	inode    uint64
	size     int64
	modified unix.Timespec
	changed  unix.Timespec
}

// printOf is the zero print when there is no file.
func printOf(path string) print {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return print{}
	}
	return print{inode: st.Ino, size: st.Size, modified: st.Mtim, changed: st.Ctim}
}

// driftWatch remembers what was mended, and the files that were found as they shall be.
type driftWatch struct {
	good map[string]print // by path; nil while they have not been found so since quorate itself last changed its mind
	last string           // what was wrong and is mended, for people
	at   time.Time
}

// correct is the step against drift.
func correct(have Status) Step {
	return Step{Kind: Correct, Because: "not as it shall be: " + strings.Join(have.Drift, ", ")}
}

// drift lists what differs from the durable copy in files that only quorate writes. Files that have not been touched since
// they were good are not read. While a step is at work the files are its own business, and nothing is said.
func (i *Instance) drift() []string {
	if !i.mu.TryLock() {
		return nil
	}
	defer i.mu.Unlock()
	found, err := i.findDrift()
	if err != nil {
		return nil // a file that can't be read shows where it is needed
	}
	return found
}

// findDrift is drift for the holder of i.mu.
func (i *Instance) findDrift() ([]string, error) {
	paths := []string{i.autoConf(), i.cfg.hbaFile(), i.cfg.identFile(), i.cfg.confFile(), i.cfg.passFile()}
	now := map[string]print{}
	var good map[string]print
	i.note(func() { good = i.drifts.good })
	same := true
	for _, path := range paths {
		now[path] = printOf(path) // before it is read, so that a change in between is seen next time
		same = same && now[path] != print{} && now[path] == good[path]
	}
	if same {
		return nil, nil
	}
	l, m, _ := i.snapshot()
	content, err := os.ReadFile(i.autoConf())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the live settings: %w", err)
	}
	found := driftedSettings(string(content), l.settings(i.cfg, m.detached))
	files, err := i.serverFiles(l)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if content, err := os.ReadFile(f.path); err != nil || string(content) != f.content {
			found = append(found, filepath.Base(f.path))
		}
	}
	if len(found) == 0 {
		i.note(func() { i.drifts.good = now })
	}
	return found, nil
}

// driftedSettings names the live settings that auto.conf does not set exactly as want has them, files that it includes,
// since they could set any, and what Postgres can't read. A standby that was detached keeps the name of its slot, which means nothing there.
func driftedSettings(auto string, want map[string]string) []string {
	right, found := map[string]bool{}, []string{}
	for line := range strings.Lines(auto) {
		name := settingOf(line)
		switch {
		case name == "primary_slot_name" && want["primary_conninfo"] == "":
			right[name] = true
		case isInclude(name):
			found = append(found, name)
		case !slices.Contains(liveNames(), name):
			if !isReadable(line) {
				found = append(found, "a line that is no setting")
			}
		case strings.TrimSpace(line) == strings.TrimSpace(confLine(name, want[name])):
			right[name] = true
		default:
			found = append(found, name)
		}
	}
	for name := range want {
		if !right[name] && (name != "primary_slot_name" || want["primary_conninfo"] != "") {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// settingOf is the name that a line of a configuration file sets, in lower case; empty for comments and blank lines. The
// equals sign is optional there.
func settingOf(line string) string {
	line = strings.TrimSpace(line)
	end := strings.IndexFunc(line, func(r rune) bool {
		return !(r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z')
	})
	if end < 0 {
		end = len(line)
	}
	return strings.ToLower(line[:end])
}

// isReadable says whether Postgres takes the line for a setting, a comment or nothing. Before a value without quotes there is
// an equals sign or a blank: a word alone is no setting, and with one in the file Postgres neither reloads nor starts.
func isReadable(line string) bool {
	const quoted, bare = `'([^'\\]|\\.|'')*'`, `[-+0-9A-Za-z_.:/]+`
	return regexp.MustCompile(`^([A-Za-z_][0-9A-Za-z_.$]*(\s*=?\s*` + quoted + `|(\s*=\s*|\s+)` + bare + `))?\s*(#.*)?$`).MatchString(strings.TrimSpace(line))
}

func isInclude(name string) bool {
	return name == "include" || name == "include_dir" || name == "include_if_exists"
}

// Correct puts back what somebody else changed of the settings and files that quorate owns, and reports it. What commits
// wait for counts as unproved after that, so that Next has it proved again. What was never found right since the durable
// copy changed is a step that did not end, by this agent or by one that was killed, and nobody is blamed for it.
func (i *Instance) Correct(ctx context.Context) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	found, err := i.findDrift()
	if err != nil || len(found) == 0 {
		return err
	}
	_, m, seen := i.snapshot()
	unfinished := false
	i.note(func() { unfinished = i.drifts.good == nil })
	if slices.Contains(found, "synchronous_standby_names") {
		if seen.isProved {
			i.note(func() { i.seen.isProved, i.seen.owed = false, i.live.Sync.Names })
		}
		// It may have been empty meanwhile: then sessions begin to wait again only after a checkpoint.
		if err := i.markWaiting(waitingMark{}); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(found, func(name string) bool { return slices.Contains(liveNames(), name) }) {
		// ALTER SYSTEM where it can, because that does not lose what another session sets in the same moment. It reads the
		// file first, so that it fails on one that was damaged, and it passes over lines that are not its own.
		if _, err := i.store(ctx); err != nil {
			i.log.Warn("postgresql.auto.conf can't be changed by ALTER SYSTEM and is rewritten", "error", err)
		}
	}
	l, _, _ := i.snapshot()
	want := l.settings(i.cfg, m.detached)
	content, err := os.ReadFile(i.autoConf())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the live settings: %w", err)
	}
	if len(driftedSettings(string(content), want)) > 0 {
		if err := i.writeAutoConf(i.autoConf(), want); err != nil {
			return err
		}
	}
	if err := i.writeServerFiles(); err != nil {
		return err
	}
	if i.running() {
		if err := i.deps.Guard.Signal("SIGHUP"); err != nil {
			return fmt.Errorf("reload what was put back: %w", err)
		}
	}
	if left, err := i.findDrift(); err != nil || len(left) > 0 {
		return fmt.Errorf("put back what was changed: %s differs again: %w", strings.Join(left, ", "), errors.Join(errStillDiffers, err))
	}
	text := strings.Join(found, ", ")
	if unfinished {
		i.log.Info("finished a step that did not end", "changed", text)
		return nil
	}
	i.log.Warn("somebody else changed what quorate owns, and it was put back", "changed", text)
	i.corrected("somebody else changed " + text + ", which quorate owns; it was put back")
	return nil
}

// corrected has Status tell for a while what was wrong.
func (i *Instance) corrected(text string) {
	i.note(func() { i.drifts.last, i.drifts.at = text, time.Now() })
}
