package pgctl

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/quorate/quorate/internal/durable"
	"github.com/quorate/quorate/internal/pg"
)

// The mount point of a file system that is not mounted looks like the empty disk of a new node. So the node remembers that it
// had a data directory: one that is gone is missed and nothing is made in its place, one that never was is made
// (docs/decisions/0019).

const homeRecord = "home.bin"

// seenEvery bounds how old Seen may get before a start renews it.
const seenEvery = time.Hour

// home is the content of home.bin: the data directory that was in use here last. A SystemID of 0 means that none is missed.
type home struct {
	SystemID pg.SystemID `json:"system_id"`
	Dir      string      `json:"dir"`
	Mount    string      `json:"mount"`  // where the file system that holds it is mounted, empty if that is not known
	Device   string      `json:"device"` // as the mount table has it
	Seen     time.Time   `json:"seen"`   // when Postgres or the daemon was started on it last; for people
}

// keepHome makes durable which data directory is in use, if that is not what is known, or was seen long ago. It fails only where this
// node would miss another directory than this one.
func (i *Instance) keepHome() error {
	control, err := i.readControl()
	if err != nil {
		return fmt.Errorf("remember the data directory: %w", err)
	}
	is := home{SystemID: control.SystemID, Dir: i.cfg.DataDir, Seen: time.Now().UTC()}
	is.Mount, is.Device = mountOf(mountTable(), i.cfg.DataDir)
	_, m, _ := i.snapshot()
	was := m.home
	since := is.Seen.Sub(was.Seen)
	if was.Seen = is.Seen; was == is && since.Abs() < seenEvery { // a clock that was ahead is no reason to keep what it said
		return nil
	}
	err = i.setHome(is)
	if err != nil && was.SystemID == is.SystemID && was.Dir == is.Dir { // the rest is for people, and no reason to keep Postgres down
		i.log.Warn("when and where the data directory was last seen is not up to date", "error", err)
		return nil
	}
	return err
}

func (i *Instance) setHome(h home) error {
	if err := durable.Save(i.cfg.own(homeRecord), recordVersion, h); err != nil {
		return fmt.Errorf("remember the data directory: %w", err)
	}
	i.note(func() { i.marks.home = h })
	return nil
}

// gone says that a data directory was in use here and is not there, what it was, and what to do; empty: none is missed. A copy that
// is whole and only waits for its name is not: its plan goes on.
func (i *Instance) gone() string {
	var h home
	var p *plan
	var busy bool
	i.note(func() { h, p, busy = i.marks.home, i.marks.plan, i.clone != nil })
	if h.SystemID == 0 || busy || !i.dirEmpty() {
		return ""
	}
	if p != nil && p.Phase == phaseCopied {
		if _, err := os.Lstat(p.New); err == nil {
			return ""
		}
	}
	return h.missed(i.cfg.DataDir, i.cfg.Name, mountTable())
}

// missed says what is missed in dir on the node of that name.
func (h home) missed(dir, name, mounts string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "the data directory %s is gone: ", dir)
	if h.Dir != dir {
		fmt.Fprintf(&out, "this node's was %s; ", h.Dir)
	}
	fmt.Fprintf(&out, "it held system %s when it was last seen, %s", h.SystemID, h.Seen.Format(time.RFC3339))
	switch now, device := mountOf(mounts, h.Mount); {
	case h.Mount == "":
	case now != h.Mount:
		fmt.Fprintf(&out, ", on %s, which was mounted at %s and is not now", h.Device, h.Mount)
	case device != h.Device: // devices get other names, too, so it is said and nothing follows from it
		fmt.Fprintf(&out, ", on %s, which was mounted at %s, where %s is now", h.Device, h.Mount, device)
	}
	fmt.Fprintf(&out, ". Nothing is made in its place: mount it or put it back, and this node goes on by itself. "+
		"If it is lost for good, this has a standby make a new copy there: quorate reinit %s", name)
	return out.String()
}

// mountTable is the kernel's list of what is mounted, empty if it can't be read: it only makes words better.
func mountTable() string {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	return string(b)
}

// mountOf returns where the file system that holds dir is mounted, and its device, from the text of mountinfo (man 5 proc). Where
// dir is there, links to it and on the way to it are followed: it may be a link itself.
func mountOf(mountinfo, dir string) (point, device string) {
	if is, err := filepath.EvalSymlinks(dir); err == nil {
		dir = is
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(mountinfo) {
		mount, file, both := strings.Cut(line, " - ")
		fields, source := strings.Fields(mount), strings.Fields(file)
		if !both || len(fields) < 5 || len(source) < 2 {
			continue
		}
		at := unescape.Replace(fields[4])
		if within(at, dir) && len(at) >= len(point) { // of two at one place the later one is seen
			point, device = at, unescape.Replace(source[1])
		}
	}
	return point, device
}
