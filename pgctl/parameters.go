package pgctl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
)

// ErrParameters says that Postgres would not take the settings or the hba lines; the text is Postgres's own. Nothing was
// changed.
var ErrParameters = errors.New("postgres refuses the settings")

// Parameters are the settings and pg_hba lines that people want. Those that quorate owns are not among them.
type Parameters struct {
	Version uint64            `json:"version"` // of the replicated document they are from, for people
	Set     map[string]string `json:"set"`     // lower-case names
	HBA     []string          `json:"hba"`     // empty: DefaultHBA
}

// Equal compares what Postgres would be told, whatever the version.
func (p Parameters) Equal(o Parameters) bool {
	return maps.Equal(p.Set, o.Set) && slices.Equal(p.HBA, o.HBA)
}

// accepted is the durable record of what Postgres has taken. The files are always written from it, so that what Postgres
// refused once is no trap for its next start.
type accepted struct {
	Parameters
	Hot pg.HotStandby `json:"hot"`
}

const parametersRecord = "parameters.bin"

// Parameters returns what Postgres has taken, and the values of the settings in pg.HotStandby in its file.
func (i *Instance) Parameters() (Parameters, pg.HotStandby) {
	a := i.accepted()
	return a.Parameters, a.Hot
}

func (i *Instance) accepted() accepted {
	i.facts.Lock()
	defer i.facts.Unlock()
	return i.params
}

// loadParameters takes what was accepted last, or the node file's when there was nothing yet.
func (i *Instance) loadParameters() error {
	var err error
	i.params, err = i.recordedParameters()
	return err
}

func (i *Instance) recordedParameters() (accepted, error) {
	return loadOr(i.cfg.own(parametersRecord), accepted{Parameters: Parameters{Set: i.cfg.Parameters, HBA: i.cfg.HBA}})
}

func (i *Instance) saveParameters(a accepted) error {
	if err := durable.Save(i.cfg.own(parametersRecord), recordVersion, a); err != nil {
		return fmt.Errorf("record the accepted settings: %w", err)
	}
	return nil
}

// CheckParameters asks the postgres program, without touching the server, whether it could start with p. ErrParameters
// holds its answer. Without a data directory nothing can be asked. It takes some 50 ms. From 15 on it loads libraries and
// certificates as a start does; what fails only when memory, huge pages or sockets are claimed is not found.
func (i *Instance) CheckParameters(ctx context.Context, p Parameters) error {
	if err := i.refuseOwned(p); err != nil {
		return err
	}
	i.settingMu.Lock()
	defer i.settingMu.Unlock()
	return i.check(ctx, accepted{Parameters: p, Hot: i.accepted().Hot})
}

func (i *Instance) refuseOwned(p Parameters) error {
	cfg := i.cfg
	cfg.Parameters, cfg.HBA = p.Set, p.HBA
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrParameters, err)
	}
	return nil
}

// check is CheckParameters under settingMu, which guards the file it uses.
func (i *Instance) check(ctx context.Context, a accepted) error {
	if i.dirEmpty() {
		return nil
	}
	content, err := i.configuration(a)
	if err != nil {
		return err
	}
	path := i.cfg.pgFile("check.conf")
	if err := i.writeFile(path, []byte(content)); err != nil {
		return err
	}
	defer func() { _ = os.Remove(path) }() // the next check replaces it
	args := []string{"-D", i.cfg.DataDir, "-c", "config_file=" + path, "-C", "data_directory"}
	if i.major >= 15 {
		dir, err := i.makeDouble()
		if err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }() // the same
		args = i.dryStart(dir, path)
	}
	cmd := i.program(ctx, "postgres", args...)
	switch err := runProgram(cmd, nil); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("ask postgres about the settings: %w", context.Cause(ctx))
	default:
		return fmt.Errorf("%w: %s", ErrParameters, complaints(err.Error()))
	}
}

// complaint is what Postgres says before its messages.
var complaint = regexp.MustCompile(`(?:^|; ).*?(?:LOG|FATAL|HINT|DETAIL|ERROR):  | in file "[^"]*/check\.conf" line \d+`)

// complaints takes the time stamps, and the file that only the check saw, out of what the program wrote.
func complaints(text string) string {
	if at := complaint.FindStringIndex(text); at != nil {
		text = text[at[0]:]
	}
	parts := strings.Split(complaint.ReplaceAllString(text, "\x00"), "\x00")
	parts = slices.DeleteFunc(parts, func(p string) bool {
		return strings.TrimSpace(p) == "" || strings.HasPrefix(p, "configuration file ")
	})
	if len(parts) == 0 {
		return text
	}
	return strings.Join(parts, "; ")
}

// SetParameters makes Postgres take p: checked first, then written, reloaded and looked at again, all within ctx. What
// only a restart can change is in the file then and shows in Survey. On ErrParameters all is as before. A server that is
// stopped, or keeps clients out, can't judge hba lines, so changed ones give ErrNotRunning: try again. Those for a first start
// are taken as they are.
func (i *Instance) SetParameters(ctx context.Context, p Parameters) error {
	if err := i.refuseOwned(p); err != nil {
		return err
	}
	i.settingMu.Lock()
	defer i.settingMu.Unlock()
	before := i.accepted()
	next := accepted{Parameters: p, Hot: before.Hot}
	if p.Equal(before.Parameters) {
		return i.keepParameters(next)
	}
	running := i.running()
	l, _, _ := i.snapshot()
	if (!running || l.Gated) && !slices.Equal(p.HBA, before.HBA) && !i.dirEmpty() && !i.foreign() {
		return fmt.Errorf("change pg_hba, which only a server that lets clients in can judge: %w", ErrNotRunning)
	}
	if err := i.check(ctx, next); err != nil {
		return err
	}
	// From here on the files have what is not accepted yet.
	i.log.Info("settings on trial", "version", p.Version, "running", running)
	if err := i.tell(next); err != nil {
		return errors.Join(err, i.tell(before))
	}
	if running {
		if err := i.judged(ctx); err != nil {
			return errors.Join(err, i.tell(before))
		}
	}
	if err := i.keepParameters(next); err != nil {
		return errors.Join(err, i.tell(before))
	}
	i.log.Info("settings taken", "version", p.Version, "running", running)
	return nil
}

// keepParameters records what holds from now on. SetHotStandby may have changed its part meanwhile.
func (i *Instance) keepParameters(a accepted) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	a.Hot = i.accepted().Hot
	if err := i.saveParameters(a); err != nil {
		return err
	}
	i.note(func() { i.params = a })
	return nil
}

// tell writes the files from a, not yet durably accepted, and has a running server read them.
func (i *Instance) tell(a accepted) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.note(func() { a.Hot = i.params.Hot; i.params = a })
	return i.rewrite()
}

// rewrite brings files and server to i.params. The caller holds i.mu.
func (i *Instance) rewrite() error {
	if err := i.writeServerFiles(); err != nil {
		return err
	}
	if !i.running() {
		return nil
	}
	if err := i.deps.Guard.Signal("SIGHUP"); err != nil {
		return fmt.Errorf("have the settings read: %w", err)
	}
	return nil
}

// judged asks the server what it thinks of the files as they are now. Settings that only a restart changes count as
// errors there, and are none. It waits for no lock but that of a fresh session.
func (i *Instance) judged(ctx context.Context) error {
	s, err := i.connect(ctx)
	if err != nil {
		return err
	}
	defer s.close()
	out, err := s.rows(ctx, `SELECT coalesce(name, ''), error FROM pg_file_settings WHERE error IS NOT NULL AND NOT applied
 AND sourcefile = `+pg.QuoteLiteral(i.cfg.confFile())+` AND (name IS NULL OR name NOT IN (SELECT name FROM pg_settings WHERE context = 'postmaster'));
SELECT line_number, error FROM pg_hba_file_rules WHERE error IS NOT NULL`)
	if err != nil {
		return fmt.Errorf("ask the server about its files: %w", err)
	}
	var wrong []string
	for _, r := range out[0] {
		wrong = append(wrong, fmt.Sprintf("setting %s: %s", r[0], r[1]))
	}
	file, err := os.ReadFile(i.cfg.hbaFile())
	if err != nil {
		return fmt.Errorf("read the hba file: %w", err)
	}
	lines := strings.Split(string(file), "\n")
	for _, r := range out[1] {
		n, err := strconv.Atoi(r[0])
		if err != nil || n < 1 || n > len(lines) {
			n = len(lines)
		}
		wrong = append(wrong, fmt.Sprintf("pg_hba line %q: %s", lines[n-1], r[1]))
	}
	if len(wrong) > 0 {
		return fmt.Errorf("%w: %s", ErrParameters, strings.Join(wrong, "; "))
	}
	return nil
}

// SetHotStandby puts these values, decided by Ordering, into the file of a server that runs or not; zero takes them as
// they are wanted. They hold from the next start.
func (i *Instance) SetHotStandby(h pg.HotStandby) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.accepted().Hot == h {
		return nil
	}
	// Parameters that are on trial at this moment are not to be recorded as accepted; they record this part themselves.
	if err := i.recordHotStandby(h); err != nil {
		return err
	}
	return i.rewrite()
}

func (i *Instance) recordHotStandby(h pg.HotStandby) error {
	saved, err := i.recordedParameters()
	if err != nil {
		return err
	}
	saved.Hot = h
	if err := i.saveParameters(saved); err != nil {
		return err
	}
	i.note(func() { i.params.Hot = h })
	names := pg.HotStandbyNames()
	i.log.Info("settings for the next start", names[0], h[0], names[1], h[1], names[2], h[2], names[3], h[3])
	return nil
}

// raiseHotStandby has the start that is about to be made replay the log here. The caller holds i.mu and writes the files next.
func (i *Instance) raiseHotStandby(control pg.HotStandby) error {
	a := i.accepted()
	h, raised := ToReplay(a.Hot, control, a.Set)
	if !raised {
		return nil
	}
	return i.recordHotStandby(h)
}

// Survey is what the running server says about settings that only a restart changes.
type Survey struct {
	Hot     pg.HotStandby     // what it runs with
	Pending []string          // sorted names of settings whose values in the files wait for a restart
	Running map[string]string // the values that those run with, in the units of pg_settings
}

// Survey looks in a session of its own. What was reloaded less than a moment ago may not show yet.
func (i *Instance) Survey(ctx context.Context) (Survey, error) {
	s, err := i.connect(ctx)
	if err != nil {
		return Survey{}, err
	}
	defer s.close()
	names := pg.HotStandbyNames()
	var quoted []string
	for _, name := range names {
		quoted = append(quoted, pg.QuoteLiteral(name))
	}
	// A setting that was put into the files and taken out again keeps its mark until the restart that nobody needs.
	out, err := s.rows(ctx, `SELECT name, setting, pending_restart AND (source = 'configuration file' OR name IN (SELECT name FROM pg_file_settings))
 FROM pg_settings WHERE pending_restart OR name IN (`+strings.Join(quoted, ",")+`) ORDER BY name`)
	if err != nil {
		return Survey{}, fmt.Errorf("look at the settings that wait for a restart: %w", err)
	}
	found := Survey{Running: map[string]string{}}
	for _, r := range out[0] {
		if at := slices.Index(names[:], r[0]); at >= 0 {
			n, err := intField(r[1])
			if err != nil {
				return Survey{}, err
			}
			found.Hot[at] = int(n)
		}
		if r[2] == "t" {
			found.Pending, found.Running[r[0]] = append(found.Pending, r[0]), r[1]
		}
	}
	return found, nil
}
