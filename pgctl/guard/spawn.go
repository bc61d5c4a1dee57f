package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"
)

// startFiles is a checked StartRequest with its files open: a socket goroutine
// opens them, so that a hung disk holds up nobody but that client.
type startFiles struct {
	req       StartRequest
	null, log *os.File
}

func (r StartRequest) check() error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("start: "+format+": %w", append(args, ErrBadRequest)...)
	}
	switch {
	case len(r.Argv) == 0 || !filepath.IsAbs(r.Argv[0]):
		return bad("argv %q must begin with the absolute path of postgres", r.Argv)
	case !filepath.IsAbs(r.Dir):
		return bad("dir %q must be the absolute path of PGDATA", r.Dir)
	case r.LogFile == "":
		return bad("log_file is missing")
	case r.L <= 0 || r.KillAfter <= 0 || r.Margin <= 0:
		return bad("l %s, kill_after %s and margin %s must be above 0", r.L, r.KillAfter, r.Margin)
	case r.Verdict != VerdictStandby && r.Verdict != VerdictServe && r.Verdict != VerdictUnleased:
		return bad("verdict %s can't begin a run", r.Verdict)
	}
	return nil
}

func openStart(r StartRequest) (*startFiles, error) {
	if err := r.check(); err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, fmt.Errorf("open the standard input: %w", err)
	}
	log, err := openLog(r)
	if err != nil {
		_ = null.Close()
		return nil, err
	}
	return &startFiles{req: r, null: null, log: log}, nil
}

// openLog may run as root in a directory where the user of Postgres may write:
// through a link that user could have any file appended to, or given to him.
func openLog(r StartRequest) (*os.File, error) {
	const how = os.O_WRONLY | os.O_APPEND | unix.O_NOFOLLOW
	f, err := os.OpenFile(r.LogFile, how|os.O_CREATE|os.O_EXCL, 0o600)
	if err == nil {
		if c := r.Credential; c != nil {
			err = f.Chown(int(c.UID), int(c.GID))
		}
	} else if errors.Is(err, fs.ErrExist) {
		if f, err = os.OpenFile(r.LogFile, how, 0); err == nil {
			err = soleFile(f)
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open the Postgres log: %w", err)
	}
	return f, nil
}

func soleFile(f *os.File) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return fmt.Errorf("stat %s: %w", f.Name(), err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG || st.Nlink != 1 {
		return fmt.Errorf("%s must be a regular file with one name: %w", f.Name(), ErrBadRequest)
	}
	return nil
}

func (s *startFiles) close() { _, _ = s.null.Close(), s.log.Close() }

// start forks the postmaster. It runs on the locked main thread because the
// parent-death signal fires when the forking thread ends, not the process.
func (l *loop) start(s *startFiles) error {
	if !l.status.Gone() {
		return fmt.Errorf("start while pid %d is %s: %w", l.status.PID, l.status.State, ErrRunning)
	}
	l.reap()
	into, events, err := l.fence.prepare(l.childless)
	if err != nil {
		return fmt.Errorf("start over the rest of an earlier run: %w", err)
	}
	if events >= 0 {
		// The kernel raises EPOLLPRI when "populated" changes.
		if err := l.watch(events, unix.EPOLLPRI); err != nil {
			return err
		}
	}
	pid, pidfd, err := fork(s, into)
	if err != nil {
		return err
	}
	l.pidfd, l.req = pidfd, s.req
	l.status.Run++
	l.status.PID = pid
	l.status.Exited, l.status.WaitStatus, l.status.Note = false, 0, ""
	if err := l.watch(pidfd, unix.EPOLLIN); err != nil {
		l.note(err) // the tick reaps it
	}
	l.seen, l.status.Verdict = order{}, VerdictNone
	l.obey(order{verdict: s.req.Verdict, epoch: s.req.Epoch, deadline: s.req.Deadline})
	l.enter(StateRunning)
	return nil
}

func fork(s *startFiles, cgroup int) (pid, pidfd int, err error) {
	pidfd = -1
	attr := &syscall.ProcAttr{
		Dir:   s.req.Dir,
		Env:   childEnv(s.req.Env),
		Files: []uintptr{s.null.Fd(), s.log.Fd(), s.log.Fd()},
		Sys: &syscall.SysProcAttr{
			Setsid:    true,
			Pdeathsig: syscall.SIGQUIT,
			PidFD:     &pidfd,
		},
	}
	if cgroup >= 0 {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, cgroup
	}
	if c := s.req.Credential; c != nil {
		attr.Sys.Credential = &syscall.Credential{Uid: c.UID, Gid: c.GID, Groups: c.Groups}
	}
	pid, err = syscall.ForkExec(s.req.Argv[0], s.req.Argv, attr)
	if err != nil {
		return 0, -1, fmt.Errorf("fork %s: %w", s.req.Argv[0], err)
	}
	return pid, pidfd, nil
}

// childEnv makes the postmaster give its children the normal OOM score back; it
// itself inherits the guard's protection.
func childEnv(env []string) []string {
	return append(slices.Clone(env), "PG_OOM_ADJUST_FILE=/proc/self/oom_score_adj", "PG_OOM_ADJUST_VALUE=0")
}
