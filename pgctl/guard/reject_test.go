package guard

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// inNewNetwork calls f on a thread with a network of its own that has a loopback. What f starts inherits it. The thread
// ends with the goroutine, so that nothing else gets to run in it.
func inNewNetwork(t *testing.T, f func() error) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		var err error
		defer func() { done <- err }() // also when f ends the test
		if err = unix.Unshare(unix.CLONE_NEWNET); err == nil {
			err = raiseLoopback()
		}
		if err == nil {
			err = f()
		}
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func raiseLoopback() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(s) }()
	r, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	r.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r)
}

// answerOf names what becomes of a new connection: open, refused, or the error.
func answerOf(addr string) string {
	c, err := net.DialTimeout("tcp", addr, patience)
	switch {
	case err == nil:
		_ = c.Close()
		return "open"
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	default:
		return err.Error()
	}
}

func TestNetfilter(t *testing.T) {
	inNewNetwork(t, func() error {
		var ports []uint16
		for _, on := range []string{"127.0.0.1:0", "127.0.0.2:0", "[::1]:0"} {
			l, err := net.Listen("tcp", on)
			if err != nil {
				return err
			}
			defer func() { _ = l.Close() }()
			ports = append(ports, uint16(l.Addr().(*net.TCPAddr).Port))
		}
		first, second, sixth := fmt.Sprintf("127.0.0.1:%d", ports[0]), fmt.Sprintf("127.0.0.2:%d", ports[1]), fmt.Sprintf("[::1]:%d", ports[2])
		expect := func(what string, want ...string) {
			t.Helper()
			if got := []string{answerOf(first), answerOf(second), answerOf(sixth)}; !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		f, err := openNetfilter("quorate-test")
		if err != nil {
			return err
		}
		old, err := net.Dial("tcp", first)
		if err != nil {
			return err
		}
		defer func() { _ = old.Close() }()
		expect("before", "open", "open", "open")
		var took []time.Duration
		for range 10 {
			began := Now()
			if err := f.refuse([]netip.AddrPort{netip.MustParseAddrPort(first), netip.MustParseAddrPort(sixth)}); err != nil {
				return err
			}
			took = append(took, Now()-began)
			expect("two addresses", "refused", "open", "refused")
			if err := f.allow(); err != nil {
				return err
			}
			expect("allowed", "open", "open", "open")
		}
		t.Logf("refusing took %s", took)
		if err := f.refuse([]netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), ports[1])}); err != nil {
			return err
		}
		expect("any address", "open", "refused", "open")
		if _, err := old.Write([]byte("x")); err != nil {
			t.Errorf("an established connection: %v", err)
		}
		// What a killed guard leaves: the kernel closes its socket.
		if err := f.close(); err != nil {
			return err
		}
		expect("the socket closed", "open", "open", "open")
		return nil
	})
}

func TestNetfilterSaysWhyNot(t *testing.T) {
	inNewNetwork(t, func() error {
		f, err := openNetfilter("quorate-test")
		if err != nil {
			return err
		}
		defer func() { _ = f.close() }()
		if err := f.allow(); !errors.Is(err, unix.ENOENT) {
			t.Errorf("removing what is not there: %v", err)
		}
		// The thread gives the right away for good; it ends with this function.
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			return err
		}
		if err := f.refuse(nil); !errors.Is(err, unix.EPERM) {
			t.Errorf("without CAP_NET_ADMIN: %v", err)
		}
		return nil
	})
}

// TestFrozenRefusesNewConnections has a guard freeze a run in whose network somebody listens.
func TestFrozenRefusesNewConnections(t *testing.T) {
	inNewNetwork(t, func() error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		r := newRig(t, "cgroup")
		st, err := r.Client.Status()
		if err != nil || st.Reject != "yes" {
			t.Fatalf("reject %q: %v", st.Reject, err)
		}
		to := func(want string) {
			t.Helper()
			r.waitFor("connection "+want, func() bool { return answerOf(l.Addr().String()) == want })
		}
		req := r.request(shell, "-c", "exec sleep 1000")
		req.Listen = []netip.AddrPort{netip.MustParseAddrPort(l.Addr().String())}
		req.Verdict, req.Deadline = VerdictServe, Now()+100*time.Millisecond
		r.start(req)
		old, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			return err
		}
		defer func() { _ = old.Close() }()
		r.waitState(StateFrozen)
		to("refused")
		if _, err := old.Write([]byte("x")); err != nil {
			t.Errorf("an established connection: %v", err)
		}
		r.serve(300 * time.Millisecond)
		r.waitState(StateRunning)
		to("open")
		r.waitState(StateFrozen)
		to("refused")
		r.Set(VerdictStop, 1, 0)
		r.waitState(StateEmpty)
		to("open") // nobody's Postgres is there any more, and the port may be somebody else's
		req.Verdict, req.Deadline = VerdictServe, Now()
		r.start(req)
		to("refused")
		if err := killGuard(r.guard); err != nil {
			return err
		}
		to("open")
		if log, err := os.ReadFile(filepath.Join(r.opts.Dir, logName)); err == nil && testing.Verbose() {
			t.Logf("%s", log)
		}
		return nil
	})
}
