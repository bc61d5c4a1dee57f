package guard

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Whatever is in the shared record, it is read within bounds, and nothing that an agent can have written lets Postgres write
// for longer than the lease and the heartbeat allow.
func FuzzRecord(f *testing.F) {
	sample := func(change func(*record)) []byte {
		rec, fd, err := newRecord(identity{pid: 42, start: 7, boot: [2]uint64{1, 2}})
		if err != nil {
			f.Fatal(err)
		}
		defer func() { _, _ = rec.close(), unix.Close(fd) }()
		change(rec)
		return bytes.Clone(rec.mem[:8*(wordTick+1)])
	}
	const now, lease = 1000 * time.Second, 800 * time.Millisecond
	for _, o := range []order{
		{run: 1, verdict: VerdictServe, epoch: 3, deadline: now + lease}, {run: 1, verdict: VerdictStandby}, {run: 1, verdict: VerdictUnleased, epoch: 3},
		{run: 1, verdict: VerdictStop, epoch: 9}, {run: 1, verdict: 99},
	} {
		f.Add(sample(func(r *record) { r.setOrder(o); r.setBeat(now); r.setView(View{Run: 1, State: StateRunning, PID: 2}) }), true)
	}
	f.Add(sample(func(r *record) { r.word[wordAgentSeq].Store(7); r.word[wordSeq].Store(7) }), false)
	rec, fd, err := newRecord(identity{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _, _ = rec.close(), unix.Close(fd) })
	f.Fuzz(func(t *testing.T, content []byte, paused bool) {
		clear(rec.mem)
		copy(rec.mem, content)
		if _, err := rec.check(); err != nil && !errors.Is(err, ErrIncompatible) {
			t.Fatalf("untyped error %v", err)
		}
		if v, ok := rec.view(); ok {
			if _, err := json.Marshal(answer{Status: Status{View: v}}); err != nil {
				t.Fatal(err)
			}
			_ = v.Exit()
		}
		o, ok := rec.order()
		if !ok {
			return
		}
		for _, state := range []State{StateRunning, StateFrozen} {
			act, next := decide(facts{now: now, state: state, since: now - lease, verdict: o.verdict, leaseEnd: min(o.deadline, now+lease),
				beat: rec.beat(), paused: paused, killAfter: lease})
			free := o.verdict == VerdictStandby || o.verdict == VerdictUnleased && paused
			runs := act == actThaw || act == actNothing && state == StateRunning
			if runs && !free && (next <= now || next > now+2*heartbeatLimit) {
				t.Fatalf("%+v with beat %s: action %d until %s, now is %s", o, rec.beat(), act, next, now)
			}
		}
	})
}

// A line of a client is a command or it is refused; what may begin a run is bounded, and no signal goes through that would
// leave backends behind.
func FuzzCommand(f *testing.F) {
	for _, c := range []command{
		{Cmd: "status"}, {Cmd: "signal", Signal: "SIGHUP", Run: 3}, {Cmd: "signal", Signal: "SIGKILL"}, {Cmd: "quit"},
		{Cmd: "start", Start: &StartRequest{Argv: []string{"/bin/postgres", "-D", "/d"}, Dir: "/d", LogFile: "/l", L: 1, KillAfter: 1, Margin: 1,
			Verdict: VerdictStandby, Credential: &Credential{UID: 1, GID: 2, Groups: []uint32{3}}}},
	} {
		b, err := json.Marshal(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var c, again command
		if json.Unmarshal(line, &c) != nil {
			return
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if err := json.Unmarshal(b, &again); err != nil || !sameJSON(c, again) {
			t.Fatalf("%s became %s, %v", line, b, err)
		}
		if sig, err := allowedSignal(c.Signal); err != nil {
			if !errors.Is(err, ErrBadRequest) || sig != 0 {
				t.Fatalf("%q: %d, %v", c.Signal, sig, err)
			}
		} else if sig == unix.SIGKILL || sig == unix.SIGSTOP || unix.SignalName(sig) != c.Signal {
			t.Fatalf("%q may be sent as %d", c.Signal, sig)
		}
		if c.Start == nil {
			return
		}
		switch err := c.Start.check(); {
		case err != nil:
			if !errors.Is(err, ErrBadRequest) || !strings.HasPrefix(err.Error(), "start: ") {
				t.Fatalf("untyped error %v", err)
			}
		case !filepath.IsAbs(c.Start.Argv[0]), !filepath.IsAbs(c.Start.Dir), c.Start.L <= 0, c.Start.KillAfter <= 0, c.Start.Verdict == VerdictStop:
			t.Fatalf("%+v may begin a run", c.Start)
		}
	})
}

func sameJSON(a, b any) bool {
	x, err1 := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// A status line that is understood is the one that was sent, and an error keeps what it is.
func FuzzAnswer(f *testing.F) {
	for _, err := range []error{nil, ErrRunning, ErrBadRequest, errors.New("x")} {
		b, encodeErr := json.Marshal(failed(Status{View: View{Run: 1, State: StateFrozen, Verdict: VerdictServe}, Fence: "cgroup"}, err))
		if encodeErr != nil {
			f.Fatal(encodeErr)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		var a, again answer
		if json.Unmarshal(line, &a) != nil {
			return
		}
		b, err := json.Marshal(a)
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if err := json.Unmarshal(b, &again); err != nil || !reflect.DeepEqual(a, again) && !sameJSON(a, again) {
			t.Fatalf("%s became %s, %v", line, b, err)
		}
		if a.Status.State > StateEmpty || a.Status.Verdict > VerdictUnleased {
			t.Fatalf("%s: %d, %d", line, a.Status.State, a.Status.Verdict)
		}
	})
}

// The file of a run is read as it was written, or as that of no run: half an entry would name a wrong process.
func FuzzRunFile(f *testing.F) {
	b, err := json.Marshal(runEntry{Boot: "00", Run: 3, PID: 4711, Start: 99, Exe: "/bin/postgres", Dir: "/d", Cgroup: "quorate/n1"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)/2])
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, runName), content, 0o600); err != nil {
			t.Fatal(err)
		}
		e := readRun(dir)
		var whole runEntry
		if err := json.Unmarshal(content, &whole); err != nil && e != (runEntry{}) {
			t.Fatalf("%q can't be read (%v), and is %+v", content, err, e)
		}
		if err := saveRun(dir, e); err != nil {
			t.Fatal(err)
		}
		if again := readRun(dir); again != e {
			t.Fatalf("%+v became %+v", e, again)
		}
	})
}

// Who is killed for holding the guard's lock is who wrote it, whole and since the machine booted, or nobody.
func FuzzLockHolder(f *testing.F) {
	boot := [2]uint64{1, 2}
	id := identity{pid: 4711, start: 99, boot: boot}
	b, err := json.Marshal(id.lines())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:len(b)-3])
	f.Add(append(bytes.Clone(b), b...))
	f.Add(bytes.Replace(b, []byte("99"), []byte(`"99"`), 1)) // all of it but the start, by which a process is told from a later one
	f.Fuzz(func(t *testing.T, content []byte) {
		got := lockHolder(content, boot)
		if later := lockHolder(content, [2]uint64{1, 3}); later != (identity{}) && got != (identity{}) {
			t.Fatalf("%q is of two boots: %+v, %+v", content, got, later)
		}
		if got == (identity{}) {
			return
		}
		var whole lockEntry
		if err := json.Unmarshal(content, &whole); err != nil || whole != got.lines() {
			t.Fatalf("%q is %+v (%v), and %+v is taken for its holder", content, whole, err, got)
		}
		again, err := json.Marshal(got.lines())
		if err != nil || lockHolder(again, boot) != got {
			t.Fatalf("%+v became %s, %v", got, again, err)
		}
	})
}

// Whatever a process is called, its line says the same of it; one that is said never to run again has ended, is ending, or
// hangs with a SIGKILL before it.
func FuzzStat(f *testing.F) {
	f.Add([]byte("S 1 12 12 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 1 0 0 0 0 0 0 0 256 0 0"), "a) R (b")
	f.Add([]byte("D 1 7 7 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 99 0 0 0 0 0 0 0 0 256 0 0 0"), "postgres: n1: walreceiver")
	f.Add([]byte("Z 1"), "")
	f.Fuzz(func(t *testing.T, rest []byte, name string) {
		if bytes.ContainsRune(rest, ')') {
			return
		}
		line := append([]byte("12 ("+name+") "), rest...)
		plain := append([]byte("12 (x) "), rest...)
		p, ok := parseStat(12, line)
		if q, also := parseStat(12, plain); q != p || ok != also || !ok && p != (proc{}) {
			t.Fatalf("%q is %+v, %t, and as x %+v, %t", line, p, ok, q, also)
		}
		if neverRuns(line) != neverRuns(plain) {
			t.Fatalf("%q never runs by its name", line)
		}
		if !neverRuns(line) {
			return
		}
		fields := bytes.Fields(rest)
		flags, err1 := strconv.ParseUint(string(fields[6]), 10, 64)
		pending, err2 := strconv.ParseUint(string(fields[28]), 10, 64)
		killed := fields[0][0] == 'D' && pending&(1<<(unix.SIGKILL-1)) != 0
		if err1 != nil || err2 != nil || fields[0][0] != 'Z' && fields[0][0] != 'X' && flags&flagExiting == 0 && !killed {
			t.Fatalf("%q is said never to run", line)
		}
	})
}

// Where cgroup2 is mounted is found under any name that the kernel can write.
func FuzzMountinfo(f *testing.F) {
	f.Add("/sys/fs/cgroup", "30 22 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n")
	f.Add("/mnt/a b\t\\c", "")
	f.Add("/x - cgroup2 y", "garbage - cgroup2 \n")
	escaped := strings.NewReplacer(" ", `\040`, "\t", `\011`, "\n", `\012`, `\`, `\134`)
	f.Fuzz(func(t *testing.T, path, before string) {
		if _, err := findCgroup2(before); err == nil {
			return
		}
		if !strings.HasPrefix(path, "/") || strings.IndexFunc(path, func(r rune) bool { return r < ' ' && r != '\t' && r != '\n' || r > '~' }) >= 0 {
			return // the kernel escapes more than we need
		}
		line := "40 30 0:37 / " + escaped.Replace(path) + " rw,relatime shared:3 - cgroup2 cgroup2 rw\n"
		if got, err := findCgroup2(before + "\n" + line); err != nil || got != path {
			t.Fatalf("%q is found at %q, %v", path, got, err)
		}
	})
}

// A group counts as empty only if the kernel says so in a line of its own.
func FuzzPopulated(f *testing.F) {
	f.Add([]byte("populated 0\nfrozen 1\n"))
	f.Add([]byte("frozen 0\npopulated 1\n"))
	f.Fuzz(func(t *testing.T, events []byte) {
		said := slices.ContainsFunc(strings.Split(string(events), "\n"), func(l string) bool { return strings.TrimSpace(l) == "populated 0" })
		if populated(events) == said {
			t.Fatalf("%q: populated %t", events, populated(events))
		}
	})
}

// The kernel's word on a batch is found in whatever comes before it, and garbage is no word.
func FuzzNetlinkAnswer(f *testing.F) {
	message := func(kind uint16, seq uint32, code int32) []byte {
		b := binary.NativeEndian.AppendUint32(nil, 36)
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = binary.NativeEndian.AppendUint16(b, 0)
		b = binary.NativeEndian.AppendUint32(b, seq)
		b = binary.NativeEndian.AppendUint32(b, 0)
		b = binary.NativeEndian.AppendUint32(b, uint32(code))
		return append(b, make([]byte, 16)...)
	}
	f.Add(message(unix.NLMSG_ERROR, 3, 0), uint32(3), uint8(2))
	f.Add(append(message(unix.NLMSG_ERROR, 1, -13), message(unix.NLMSG_ERROR, 9, 0)...), uint32(7), uint8(3))
	f.Add([]byte{0, 0, 0, 0}, uint32(0xffffffff), uint8(1))
	f.Fuzz(func(t *testing.T, before []byte, first uint32, more uint8) {
		final := first + uint32(more)
		done, err := answered(before, first, final)
		if err != nil && !done {
			t.Fatalf("%x: an error and not done: %v", before, err)
		}
		var no unix.Errno
		if err != nil && !errors.As(err, &no) {
			t.Fatalf("untyped error %v", err)
		}
		if done {
			return
		}
		// Only whole messages stand before another one.
		for at := 0; at < len(before); {
			if at+20 > len(before) {
				return
			}
			size := int(binary.NativeEndian.Uint32(before[at:]))
			if at += max(aligned(size), 20); at > len(before) {
				return
			}
		}
		if done, err := answered(append(bytes.Clone(before), message(unix.NLMSG_ERROR, final, 0)...), first, final); !done || err != nil {
			t.Fatalf("%x: the last is accepted, and that is %t, %v", before, done, err)
		}
		if done, err := answered(append(bytes.Clone(before), message(unix.NLMSG_ERROR, first, -13)...), first, final); !done || !errors.Is(err, unix.EACCES) {
			t.Fatalf("%x: the first is refused, and that is %t, %v", before, done, err)
		}
	})
}
