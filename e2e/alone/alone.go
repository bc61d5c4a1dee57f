// Package alone lets one run of the end-to-end tests after the other have this machine: they own it while they run, and judge
// what it can't do while it is busy with another.
//
// It must never leave the lock to what a test starts: that may live on after a run that was killed, and the next run is there to
// clean it up.
package alone

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// file is the same for every user and whatever his TMPDIR: there is one machine.
	file = "/tmp/quorate-e2e.lock"
	// limit is longer than a run takes. It counts for go test's -timeout, which must leave room for the tests behind it.
	limit = 20 * time.Minute
	// lookEvery is the pause between two tries.
	lookEvery = 100 * time.Millisecond
)

// Take waits until no other run has the machine, which it says to out, and takes it until the Closer is closed or this process
// ends, however that is. It gives up after 20 minutes.
func Take(out io.Writer) (io.Closer, error) { return take(file, limit, out) }

func take(path string, limit time.Duration, out io.Writer) (io.Closer, error) {
	f, err := open(path) // closed on exec, as every file that Go opens
	if err != nil {
		return nil, fmt.Errorf("open the lock of the end-to-end tests: %w", err)
	}
	enough := time.After(limit)
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		if !said {
			fmt.Fprintf(out, "waiting, for up to %s, for another run of the end-to-end tests, which has %s locked\n", limit, path)
		}
		select {
		case <-tick.C:
		case <-enough:
			return nil, errors.Join(fmt.Errorf("other runs of the end-to-end tests have had %s locked for %s: end them (e2e.test, "+
				"hostile.test), or wait until they have ended", path, limit), f.Close())
		}
	}
}

// open makes the file when it is not there. To lock it, it is enough to read it, which any user may: where everybody may make
// files, the kernel lets nobody open another's with O_CREATE (fs.protected_regular).
func open(path string) (*os.File, error) {
	f, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	f, err = os.OpenFile(path, os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return os.Open(path) // another run was quicker
	}
	if err != nil {
		return nil, err
	}
	if err := f.Chmod(0o644); err != nil { // whatever the umask
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
