package pgctl

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/quorate/quorate/internal/pg"
)

// Found is what is in a data directory before it belongs to a cluster.
type Found struct {
	Empty    bool
	Problem  string // why quorate can't use it as it is, and what to do about it
	Control  pg.Control
	Position Position    // the end of the log; while Server runs, it has at least this
	Highest  pg.Timeline // of which there is a history in pg_wal, 0 for none

	Standby    bool       // there is a standby.signal
	Recovering bool       // there is a recovery.signal
	Unfinished bool       // it is a base backup whose end was never reached
	Manager    string     // the quorate node that ran it last, as cluster_name has it
	Server     Postmaster // that runs on it and that this node's guard did not start
	Patroni    bool       // Patroni ran it, or what it was copied from
	// Import are the settings and pg_hba lines that were in use and that quorate does not find in the directory by itself,
	// or has been given no others for. Settings that quorate owns are not among them.
	Import Parameters
	// Unread says why what was in use can't be taken over, and what to do about it. It matters only where the cluster begins with
	// this directory.
	Unread string
}

// foundCache is what Found needn't do again: the log of a busy server is long.
type foundCache struct {
	control  []byte
	server   Postmaster
	position Position
}

// Major is the version of the programs in BinDir.
func (i *Instance) Major() pg.MajorVersion { return i.major }

// Found looks at the data directory and changes nothing. The first look reads the log from the last checkpoint on, which may
// take a second or two; it is not to be called by two goroutines at once.
func (i *Instance) Found() Found {
	if i.dirEmpty() {
		return Found{Empty: true}
	}
	f := Found{Server: i.stranger()}
	if f.Problem = i.dirProblem(); f.Problem != "" {
		return f
	}
	if f.Problem = i.occupied(); f.Problem != "" {
		return f
	}
	content, control, err := i.controlFile()
	if err != nil {
		f.Problem = err.Error() + "; restore the directory, or move it away"
		return f
	}
	f.Control = control
	f.Standby, f.Recovering = i.has("standby.signal"), i.has("recovery.signal")
	f.Patroni = i.has("patroni.dynamic.json")
	f.Unfinished = i.has("backup_label") || control.BackupStart != 0 || control.BackupEndRequired
	opts := i.lastStart()
	f.Manager = opts.manager()
	f.Position = Position{Timeline: max(control.CheckpointTimeline, 1), LSN: control.Redo}
	if !f.Unfinished { // of a backup the log is not to be read from where pg_control says
		if f.Position, err = i.foundPosition(content, control, f.Server); err != nil {
			f.Problem = err.Error()
			return f
		}
		if end := control.MinRecoveryPoint; end > f.Position.LSN && f.Server.PID == 0 {
			f.Problem = fmt.Sprintf("its files may hold changes up to %s and its log ends at %s: part of pg_wal is missing", end,
				f.Position.LSN)
			return f
		}
	}
	if f.Highest, err = i.highestHistory(); err != nil {
		f.Problem = err.Error()
		return f
	}
	f.Import, f.Unread = i.findImport(opts, control.Logical)
	return f
}

func (i *Instance) has(name string) bool {
	_, err := os.Stat(filepath.Join(i.cfg.DataDir, name))
	return err == nil
}

// foundPosition finds the end of the log. A server that runs only adds to it.
func (i *Instance) foundPosition(content []byte, control pg.Control, server Postmaster) (Position, error) {
	last, from := i.found, pg.LSN(0)
	switch {
	case server.PID != 0 && server == last.server:
		from = last.position.LSN
	case server.PID == 0 && last.server.PID == 0 && bytes.Equal(content, last.control):
		return last.position, nil
	}
	p, err := i.scan(from, from > 0)
	if err != nil {
		return Position{}, err
	}
	i.found = foundCache{control: content, server: server, position: p}
	return p, nil
}

// dirProblem says what keeps Postgres, or quorate, from using the directory.
func (i *Instance) dirProblem() string {
	dir := i.cfg.DataDir
	link, err := os.Lstat(dir)
	if err != nil {
		return err.Error()
	}
	if link.Mode()&fs.ModeSymlink != 0 {
		real, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%s is a symbolic link, and a clone replaces a directory by its name: set postgresql.data_dir to %s", dir,
			real)
	}
	if !link.IsDir() {
		return dir + " is no directory"
	}
	if text := i.ownerProblem(link); text != "" {
		return text
	}
	if mounted(dir) {
		return fmt.Sprintf("%s is the mount itself, and a clone is made beside a directory and takes its name: move the "+
			"data into a directory below it and set postgresql.data_dir to that", dir)
	}
	content, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Sprintf("%s is not empty and has no PG_VERSION, so it is no data directory: set postgresql.data_dir to "+
			"one, or move it away: mv %s %s.old", dir, dir, dir)
	}
	if err != nil {
		return err.Error()
	}
	major, err := pg.ParseVersionFile(string(content))
	switch {
	case err != nil:
		return err.Error()
	case major != i.major:
		return fmt.Sprintf("%s is of PostgreSQL %d and bin_dir %s has PostgreSQL %d: install PostgreSQL %d and set "+
			"postgresql.bin_dir, or run pg_upgrade first", dir, major, i.cfg.BinDir, i.major, major)
	}
	return ""
}

// mounted says that a directory is on another file system than the one around it.
func mounted(dir string) bool {
	var own, around unix.Stat_t
	return unix.Stat(dir, &own) == nil && unix.Stat(filepath.Dir(dir), &around) == nil && own.Dev != around.Dev
}

// ownerProblem applies Postgres's own conditions before it would, and that of a clone, which is made beside the directory.
func (i *Instance) ownerProblem(dir fs.FileInfo) string {
	stat, ok := dir.Sys().(*syscall.Stat_t)
	want := uint32(os.Geteuid())
	if i.cred != nil {
		want = i.cred.UID
	}
	if ok && stat.Uid != want {
		return fmt.Sprintf("%s belongs to %s and Postgres would run as %s: set postgresql.os_user, or chown -R it", i.cfg.DataDir,
			userName(stat.Uid), userName(want))
	}
	if mode := dir.Mode().Perm(); mode&0o027 != 0 {
		return fmt.Sprintf("%s has mode %04o, and Postgres starts with 0700 or 0750 only: chmod 0700 %s", i.cfg.DataDir, mode,
			i.cfg.DataDir)
	}
	if parent := filepath.Dir(i.cfg.DataDir); i.cred == nil && unix.Access(parent, unix.W_OK) != nil {
		return fmt.Sprintf("%s can't be written to, and a clone is made there: run quorate as its owner or as root", parent)
	}
	return ""
}

func userName(uid uint32) string {
	number := strconv.FormatUint(uint64(uid), 10)
	u, err := user.LookupId(number)
	if err != nil {
		return "user " + number
	}
	return u.Username
}
