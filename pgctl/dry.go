package pgctl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Some settings are wrong only where they are used: a library that is not installed, TLS without a certificate. `postgres -C`
// of an ordinary setting looks at the values alone. From 15 on there are settings whose value is known only late in a start,
// when libraries and certificates are loaded and nothing is written or claimed yet, and asking for one goes as far as that.
// It takes the lock of the data directory on the way, though, which a running server holds: so it is shown a double.

// computedLate is such a setting, which changes nothing by being asked for.
const computedLate = "shared_memory_size"

// makeDouble makes a directory that a start takes for PGDATA as far as it reads it before it writes: its names lead to the
// real ones, so that relative paths in settings do, and pg_control is a copy that nobody is writing. The caller holds settingMu.
func (i *Instance) makeDouble() (dir string, err error) {
	dir = i.cfg.pgFile("check")
	if err := os.RemoveAll(dir); err != nil { // what a check that was cut short left; names are removed, not what they lead to
		return "", fmt.Errorf("remove an old double of the data directory: %w", err)
	}
	control, _, err := i.controlFile()
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(dir) // the error is what is told
		}
	}()
	for _, d := range []string{dir, filepath.Join(dir, "global")} {
		if err := i.makeDir(d, 0o700, true); err != nil {
			return "", err
		}
	}
	if err := i.writeFile(filepath.Join(dir, "global", "pg_control"), control); err != nil {
		return "", err
	}
	entries, err := os.ReadDir(i.cfg.DataDir)
	if err != nil {
		return "", fmt.Errorf("list the data directory: %w", err)
	}
	for _, e := range entries {
		// The lock is what the double is for, and the other would be written.
		if slices.Contains([]string{"global", "postmaster.pid", "postmaster.opts"}, e.Name()) {
			continue
		}
		if err := os.Symlink(filepath.Join(i.cfg.DataDir, e.Name()), filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrExist) {
			return "", fmt.Errorf("make a double of the data directory: %w", err)
		}
	}
	return dir, nil
}

// dryStart are the arguments of a start on the double with the settings in conf, which ends before it claims anything.
func (i *Instance) dryStart(double, conf string) []string {
	args := i.commandLine(i.major)[3:] // behind the program and its -D
	return append(slices.Concat([]string{"-D", double}, args), "-c", "data_directory="+double, "-c", "config_file="+conf, "-C", computedLate)
}
