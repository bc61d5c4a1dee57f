package pgctl

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/quorate/quorate/internal/pg"
)

// inUse is an Instance whose data directory is there, with a pg_control, and was in use.
func inUse(t *testing.T) *Instance {
	t.Helper()
	i := bare(t)
	i.log = hclog.NewNullLogger()
	if err := os.MkdirAll(i.cfg.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	controlOnDisk(t, i.cfg.DataDir)
	put(t, filepath.Join(i.cfg.DataDir, "PG_VERSION"), "15\n")
	if err := i.setLive(live{}); err != nil {
		t.Fatal(err)
	}
	if err := i.keepHome(); err != nil {
		t.Fatal(err)
	}
	return i
}

// nextDaemon is what the next daemon makes of the same directories.
func (i *Instance) nextDaemon(t *testing.T) *Instance {
	t.Helper()
	next := &Instance{cfg: i.cfg, deps: i.deps, log: i.log, major: i.major}
	if err := errors.Join(next.load(), next.adopt()); err != nil {
		t.Fatal(err)
	}
	return next
}

func lose(t *testing.T, i *Instance) {
	t.Helper()
	if err := os.Rename(i.cfg.DataDir, i.cfg.DataDir+".elsewhere"); err != nil {
		t.Fatal(err)
	}
}

func toFollow(i *Instance) Want {
	return Want{Role: RoleStandby, Epoch: 1, SystemID: i.marks.home.SystemID, Upstream: Upstream{Name: "n2", Host: "n2", Port: 5432, Epoch: 1}}
}

func seenNow(i *Instance) Status {
	s := Status{Run: pg.RunAbsent, Dir: i.readDir()}
	i.recorded(&s)
	return s
}

// TestADataDirectoryThatIsGoneIsMissed: where none ever was a copy is made; where one was in use nothing is, until somebody says
// that it is lost. Back again, it is as it was.
func TestADataDirectoryThatIsGoneIsMissed(t *testing.T) {
	i := inUse(t)
	system := i.marks.home.SystemID
	lose(t, i)
	for _, empty := range []bool{false, true} { // a mount point is there and empty
		if empty {
			if err := os.Mkdir(i.cfg.DataDir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		i = i.nextDaemon(t)
		step := Next(toFollow(i), seenNow(i))
		for _, says := range []string{i.cfg.DataDir + " is gone", system.String(), time.Now().UTC().Format("2006-01-02T"), "mount it", "quorate reinit n1"} {
			if step.Kind != Hold || !strings.Contains(step.Because, says) {
				t.Errorf("empty %t: %s, want to hold and to hear of %q: %s", empty, step.Kind, says, step.Because)
			}
		}
		if err := i.startClone(Step{Kind: Clone, Upstream: toFollow(i).Upstream}); !errors.Is(err, ErrNoData) || i.clone != nil {
			t.Errorf("empty %t: a copy that was decided on before it vanished: %v", empty, err)
		}
	}
	if err := errors.Join(os.Remove(i.cfg.DataDir), os.Rename(i.cfg.DataDir+".elsewhere", i.cfg.DataDir)); err != nil {
		t.Fatal(err)
	}
	if d := i.readDir(); d.Empty || d.Gone != "" || d.Problem != "" {
		t.Errorf("back again: %+v", d)
	}
	fresh := bare(t)
	want := toFollow(i)
	if step := Next(want, seenNow(fresh)); step.Kind != Clone || step.Anew {
		t.Errorf("of a new node: %+v", step)
	}
}

// TestALostDataDirectoryIsReplacedWhenAsked: the plan that somebody asked for is all that is remembered from then on.
func TestALostDataDirectoryIsReplacedWhenAsked(t *testing.T) {
	for name, before := range map[string]*plan{
		"no copy was begun":           nil,
		"a copy was begun":            {Phase: phaseCopying, Because: "before", New: "/nowhere/new", Old: "/nowhere/old", Ours: true},
		"a whole copy went with it":   {Phase: phaseCopied, Because: "before", New: "/nowhere/new", Old: "/nowhere/old", Ours: true},
		"evidence could not be kept":  {Phase: phaseCopying, Because: "before", New: "/nowhere/new", Old: "/nowhere/old", Discard: &discard{From: 1, To: 2}},
		"a copy was made long before": {Phase: phaseDone, Because: "before", New: "/nowhere/new", Old: "/nowhere/old"},
	} {
		i := inUse(t)
		if before != nil {
			if err := i.setPlan(*before); err != nil {
				t.Fatal(err)
			}
		}
		lose(t, i)
		i = i.nextDaemon(t)
		want := toFollow(i)
		want.Reinit = true
		step := Next(want, seenNow(i))
		if step.Kind != Clone || !step.Anew {
			t.Fatalf("%s: %+v", name, step)
		}
		p, err := i.planClone(step)
		if err != nil {
			t.Fatal(err)
		}
		if resumed := before != nil && before.Phase == phaseCopying; p.Phase != phaseCopying || (p.New == "/nowhere/new") != resumed {
			t.Errorf("%s: the plan is %+v", name, p)
		}
		if err := i.cloneSteps(&cloning{})[0].do(t.Context(), &p); err != nil { // what is gone can't be kept
			t.Errorf("%s: %v", name, err)
		}
		i, want.Reinit = i.nextDaemon(t), false
		if step := Next(want, seenNow(i)); step.Kind != Clone || step.Anew {
			t.Errorf("%s: a daemon that was ended in the middle goes on with %+v", name, step)
		}
	}
}

// askedAnew is inUse without its directory, where somebody has asked for a copy in its place, and the step that this gives.
func askedAnew(t *testing.T) (*Instance, Step) {
	t.Helper()
	i := inUse(t)
	lose(t, i)
	i = i.nextDaemon(t)
	want := toFollow(i)
	want.Reinit = true
	step := Next(want, seenNow(i))
	if step.Kind != Clone || !step.Anew {
		t.Fatalf("%+v", step)
	}
	return i, step
}

func bringBack(t *testing.T, i *Instance) {
	t.Helper()
	if err := os.Rename(i.cfg.DataDir+".elsewhere", i.cfg.DataDir); err != nil {
		t.Fatal(err)
	}
}

// TestADirectoryThatIsBackBeforeItsCopyIsBegunIsNotReplaced: it was mounted after the look that missed it.
func TestADirectoryThatIsBackBeforeItsCopyIsBegunIsNotReplaced(t *testing.T) {
	i, step := askedAnew(t)
	bringBack(t, i)
	err := i.startClone(step)
	defer i.CancelClone()
	if !errors.Is(err, ErrNotEmpty) || !strings.Contains(err.Error(), "is back") || !strings.Contains(err.Error(), "quorate reinit n1") {
		t.Errorf("%v", err)
	}
	if p := i.marks.plan; p != nil || i.marks.rebuild || i.marks.home.SystemID == 0 {
		t.Errorf("planned %+v, rebuilding %t, at home in %+v", p, i.marks.rebuild, i.marks.home)
	}
}

// TestADirectoryThatIsBackWhileItsCopyIsMadeIsNotReplaced: the copy is given up, and the directory is what it was, with a log that is
// looked at before anything becomes of it, and missed if it should vanish again.
func TestADirectoryThatIsBackWhileItsCopyIsMadeIsNotReplaced(t *testing.T) {
	for _, phase := range []phase{phaseCopying, phaseCopied} {
		i, step := askedAnew(t)
		p, err := i.planClone(step)
		if err != nil {
			t.Fatal(err)
		}
		put(t, filepath.Join(p.New, "PG_VERSION"), "15\n")
		p.Phase = phase
		if err := i.setPlan(p); err != nil {
			t.Fatal(err)
		}
		bringBack(t, i)
		if err := i.keepOld(&p); !errors.Is(err, ErrNotEmpty) || i.dirEmpty() {
			t.Errorf("%s: it is moved away: %v", phase, err)
		}
		i = i.nextDaemon(t)
		resumed := Next(toFollow(i), seenNow(i))
		if resumed.Kind != Clone {
			t.Fatalf("%s: %+v", phase, resumed)
		}
		if err := i.startClone(resumed); !errors.Is(err, ErrNotEmpty) || i.clone != nil {
			t.Errorf("%s: gone on with: %v", phase, err)
		}
		i = i.nextDaemon(t)
		if _, err := os.Stat(p.New); !errors.Is(err, os.ErrNotExist) || i.marks.plan != nil || i.marks.rebuild || i.marks.home.SystemID == 0 {
			t.Errorf("%s: left are %s (%v), the plan %+v, a log that is rebuilt: %t, and home %+v", phase, p.New, err, i.marks.plan, i.marks.rebuild, i.marks.home)
		}
	}
}

// TestACopyInThePlaceOfAGoneDirectoryIsItselfNoReturn: renamed to its name it is what was asked for.
func TestACopyInThePlaceOfAGoneDirectoryIsItselfNoReturn(t *testing.T) {
	i, step := askedAnew(t)
	p, err := i.planClone(step)
	if err != nil {
		t.Fatal(err)
	}
	p.Phase = phaseCopied
	put(t, filepath.Join(i.cfg.DataDir, "PG_VERSION"), "15\n")
	if err := i.keepOld(&p); err != nil || i.returned(&p) {
		t.Errorf("%v", err)
	}
}

// TestACopyThatWaitsForItsNameIsNotMissed: quorate itself moved the directory aside and was killed before the copy had its name.
func TestACopyThatWaitsForItsNameIsNotMissed(t *testing.T) {
	i := inUse(t)
	p := plan{Phase: phaseCopied, New: i.cfg.DataDir + ".new.x", Old: i.cfg.DataDir + ".elsewhere", Ours: true}
	if err := errors.Join(i.setPlan(p), os.Mkdir(p.New, 0o700)); err != nil {
		t.Fatal(err)
	}
	lose(t, i)
	i = i.nextDaemon(t)
	if step := Next(toFollow(i), seenNow(i)); step.Kind != Clone || step.Anew {
		t.Errorf("%+v", step)
	}
	if err := os.Remove(p.New); err != nil { // the file system with both is not mounted
		t.Fatal(err)
	}
	if step := Next(toFollow(i), seenNow(i)); step.Kind != Hold {
		t.Errorf("without the copy: %+v", step)
	}
}

// TestWhatIsMissedIsNotForgottenForOtherData: what an unmounted file system lets be seen may be an older installation's.
func TestWhatIsMissedIsNotForgottenForOtherData(t *testing.T) {
	i := inUse(t)
	was := i.marks.home
	was.SystemID++
	if err := i.setHome(was); err != nil {
		t.Fatal(err)
	}
	if i = i.nextDaemon(t); i.marks.home != was {
		t.Errorf("remembered is %+v, it was %+v", i.marks.home, was)
	}
	lose(t, i)
	if d := i.readDir(); !strings.Contains(d.Gone, was.SystemID.String()) {
		t.Errorf("once that is moved away: %+v", d)
	}
}

// TestALateLookIsKept: what is remembered is written again when it has changed or is old, not with every start.
func TestALateLookIsKept(t *testing.T) {
	i := inUse(t)
	first := i.marks.home
	if err := i.keepHome(); err != nil || i.marks.home != first {
		t.Errorf("a moment later: %+v, %v", i.marks.home, err)
	}
	for name, change := range map[string]func(*home){
		"seen long ago":            func(h *home) { h.Seen = h.Seen.Add(-2 * seenEvery) },
		"seen by a clock ahead":    func(h *home) { h.Seen = h.Seen.Add(2 * seenEvery) },
		"on another file system":   func(h *home) { h.Mount = "/elsewhere" },
		"in another directory":     func(h *home) { h.Dir = "/elsewhere/data" },
		"of the system before":     func(h *home) { h.SystemID++ },
		"nothing, since a copy":    func(h *home) { *h = home{} },
		"on a device that changed": func(h *home) { h.Device = "/dev/another" },
	} {
		old := first
		change(&old)
		if err := errors.Join(i.setHome(old), i.keepHome()); err != nil {
			t.Fatal(err)
		}
		if is := i.marks.home; is.SystemID != first.SystemID || is.Dir != first.Dir || is.Mount != first.Mount || is.Device != first.Device ||
			time.Since(is.Seen).Abs() > time.Minute {
			t.Errorf("%s: %+v", name, is)
		}
	}
}

// TestOnlyADirectoryThatWouldNotBeMissedIsNoneToStartOn: what is remembered for people keeps nothing from starting.
func TestOnlyADirectoryThatWouldNotBeMissedIsNoneToStartOn(t *testing.T) {
	i := inUse(t)
	full := i.cfg.own(homeRecord)
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	put(t, filepath.Join(full, "in the way"), "") // nothing can be renamed over it
	first := i.marks.home
	for name, c := range map[string]struct {
		change func(*home)
		fails  bool
	}{
		"seen long ago":          {func(h *home) { h.Seen = h.Seen.Add(-2 * seenEvery) }, false},
		"on another file system": {func(h *home) { h.Mount, h.Device = "/elsewhere", "/dev/another" }, false},
		"in another directory":   {func(h *home) { h.Dir = "/elsewhere/data" }, true},
		"of another system":      {func(h *home) { h.SystemID++ }, true},
		"nothing yet":            {func(h *home) { *h = home{} }, true},
	} {
		i.marks.home = first
		c.change(&i.marks.home)
		was := i.marks.home
		if err := i.keepHome(); (err != nil) != c.fails || i.marks.home != was {
			t.Errorf("%s: %v, and it goes by %+v", name, err, i.marks.home)
		}
	}
}

func TestMountOf(t *testing.T) {
	const table = `22 1 252:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
30 22 252:2 / /nowhere/postgresql rw,relatime - xfs /dev/vdb rw
31 30 0:44 / /nowhere/postgresql/15\040old rw - tmpfs none rw
32 22 252:3 / /nowhere/twice rw - ext4 /dev/vdc rw
33 32 252:4 / /nowhere/twice rw - ext4 /dev/vdd rw
nonsense
`
	for dir, want := range map[string][2]string{
		"/nowhere/postgresql/15/main":     {"/nowhere/postgresql", "/dev/vdb"},
		"/nowhere/postgresql":             {"/nowhere/postgresql", "/dev/vdb"},
		"/nowhere/postgresql2/main":       {"/", "/dev/vda1"},
		"/nowhere/postgresql/15 old/main": {"/nowhere/postgresql/15 old", "none"},
		"/nowhere/twice/main":             {"/nowhere/twice", "/dev/vdd"},
	} {
		if point, device := mountOf(table, dir); point != want[0] || device != want[1] {
			t.Errorf("%s is on %s, %s; want %v", dir, point, device, want)
		}
	}
	dir := t.TempDir() // the data directory is a link to another file system, and so is one on the way to it
	err := errors.Join(os.MkdirAll(filepath.Join(dir, "disk", "15", "main"), 0o700), os.Symlink("disk/15/main", filepath.Join(dir, "data")),
		os.Symlink("disk/15", filepath.Join(dir, "way")))
	at, errAt := filepath.EvalSymlinks(dir)
	if err := errors.Join(err, errAt); err != nil {
		t.Fatal(err)
	}
	linked := table + "34 22 252:5 / " + at + "/disk rw - ext4 /dev/vde rw\n"
	for _, name := range []string{"data", "way/main", "disk/15/main"} {
		if point, device := mountOf(linked, filepath.Join(dir, name)); point != at+"/disk" || device != "/dev/vde" {
			t.Errorf("%s is on %s, %s", name, point, device)
		}
	}
	if point, device := mountOf("", "/x"); point != "" || device != "" {
		t.Errorf("without a table: %q, %q", point, device)
	}
	h := home{SystemID: 7, Dir: "/nowhere/postgresql/15/main", Mount: "/nowhere/postgresql", Device: "/dev/vdb"}
	if text := h.missed(h.Dir, "n1", table); strings.Contains(text, "mounted at") {
		t.Errorf("while it is mounted: %s", text)
	}
	without := strings.Replace(table, "/nowhere/postgresql rw", "/elsewhere rw", 1)
	if text := h.missed(h.Dir, "n1", without); !strings.Contains(text, "on /dev/vdb, which was mounted at /nowhere/postgresql and is not now") {
		t.Errorf("while it is not mounted: %s", text)
	}
	other := strings.Replace(table, "/dev/vdb", "/dev/vdz", 1)
	if text := h.missed(h.Dir, "n1", other); !strings.Contains(text, "on /dev/vdb, which was mounted at /nowhere/postgresql, where /dev/vdz is now") {
		t.Errorf("while another one is mounted: %s", text)
	}
	if text := h.missed("/data", "n1", table); !strings.Contains(text, "/data is gone: this node's was "+h.Dir) {
		t.Errorf("where the node file names another place: %s", text)
	}
}
