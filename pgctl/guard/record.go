package guard

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The record is an array of 64-bit words in host byte order. This layout is
// frozen: an agent of the next release adopts a guard of this one. New words go
// behind the last, a change of meaning raises recordVersion.
const (
	recordMagic   uint64 = 0x7175_6f72_6775_6172 // "quorguar"
	recordVersion uint64 = 1
	recordBytes          = 4096
)

// Header: written once, before the record is handed out.
const (
	wordMagic = iota
	wordVersion
	wordGuardPID
	wordGuardStart
	wordBootHigh
	wordBootLow
)

// Agent to guard: a seqlock whose only writer is the holder of agent.lock. The
// heartbeat stands alone beside it.
const (
	wordAgentSeq = iota + 16
	wordAgentRun
	wordAgentVerdict
	wordAgentEpoch
	wordAgentDeadline
	wordAgentBeat
)

// Guard to agent: a seqlock whose only writer is the deadline thread. The tick
// stands alone beside it.
const (
	wordSeq = iota + 32
	wordRun
	wordState
	wordPID
	wordSince
	wordVerdict
	wordEpoch
	wordDeadline
	wordLateness
	wordFenceLate
	wordExited
	wordExitStatus
	wordTick
)

// seqTries bounds a read: the writer may have died in the middle of a write.
const seqTries = 1000

// order is what the agent wants of one run.
type order struct {
	run      uint64
	verdict  Verdict
	epoch    uint64
	deadline time.Duration
}

// identity names one process of one boot.
type identity struct {
	pid   int
	start uint64 // clock ticks since boot, from /proc/PID/stat
	boot  [2]uint64
}

type record struct {
	mem  []byte
	word *[recordBytes / 8]atomic.Uint64
}

// newRecord makes the memory and returns it with the descriptor to hand out.
func newRecord(id identity) (*record, int, error) {
	fd, err := unix.MemfdCreate("quorate-guard", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, -1, fmt.Errorf("create the shared record: %w", err)
	}
	if err := unix.Ftruncate(fd, recordBytes); err != nil {
		return nil, -1, fmt.Errorf("size the shared record: %w", err)
	}
	// A truncated mapping would kill the guard with SIGBUS.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL); err != nil {
		return nil, -1, fmt.Errorf("seal the shared record: %w", err)
	}
	r, err := mapRecord(fd)
	if err != nil {
		return nil, -1, err
	}
	r.word[wordVersion].Store(recordVersion)
	r.word[wordGuardPID].Store(uint64(id.pid))
	r.word[wordGuardStart].Store(id.start)
	r.word[wordBootHigh].Store(id.boot[0])
	r.word[wordBootLow].Store(id.boot[1])
	r.word[wordMagic].Store(recordMagic)
	return r, fd, nil
}

func mapRecord(fd int) (*record, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, fmt.Errorf("stat the shared record: %w", err)
	}
	if st.Size < recordBytes {
		return nil, fmt.Errorf("map the shared record of %d bytes: %w", st.Size, ErrIncompatible)
	}
	mem, err := unix.Mmap(fd, 0, recordBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map the shared record: %w", err)
	}
	return &record{mem: mem, word: (*[recordBytes / 8]atomic.Uint64)(unsafe.Pointer(&mem[0]))}, nil
}

func (r *record) close() error { return unix.Munmap(r.mem) }

// check returns the guard that made the record.
func (r *record) check() (identity, error) {
	if r.word[wordMagic].Load() != recordMagic {
		return identity{}, fmt.Errorf("read the shared record: no magic: %w", ErrIncompatible)
	}
	if v := r.word[wordVersion].Load(); v != recordVersion {
		return identity{}, fmt.Errorf("read the shared record: version %d, this program knows %d: %w", v, recordVersion, ErrIncompatible)
	}
	return identity{
		pid:   int(r.word[wordGuardPID].Load()),
		start: r.word[wordGuardStart].Load(),
		boot:  [2]uint64{r.word[wordBootHigh].Load(), r.word[wordBootLow].Load()},
	}, nil
}

// write runs store between two steps of the sequence word. An odd value left by
// a writer that died is made good.
func (r *record) write(seq int, store func()) {
	s := r.word[seq].Load() | 1
	r.word[seq].Store(s)
	store()
	r.word[seq].Store(s + 1)
}

// read runs load until it saw no write, and says false if it never did.
func (r *record) read(seq int, load func()) bool {
	for range seqTries {
		s := r.word[seq].Load()
		if s&1 != 0 {
			continue
		}
		load()
		if r.word[seq].Load() == s {
			return true
		}
	}
	return false
}

func (r *record) setOrder(o order) {
	r.write(wordAgentSeq, func() {
		r.word[wordAgentRun].Store(o.run)
		r.word[wordAgentVerdict].Store(uint64(o.verdict))
		r.word[wordAgentEpoch].Store(o.epoch)
		r.word[wordAgentDeadline].Store(uint64(o.deadline))
	})
}

func (r *record) order() (o order, ok bool) {
	ok = r.read(wordAgentSeq, func() {
		o = order{
			run:      r.word[wordAgentRun].Load(),
			verdict:  Verdict(r.word[wordAgentVerdict].Load()),
			epoch:    r.word[wordAgentEpoch].Load(),
			deadline: time.Duration(r.word[wordAgentDeadline].Load()),
		}
	})
	return o, ok
}

func (r *record) setBeat(now time.Duration) { r.word[wordAgentBeat].Store(uint64(now)) }

func (r *record) beat() time.Duration { return time.Duration(r.word[wordAgentBeat].Load()) }

func (r *record) setTick(now time.Duration) { r.word[wordTick].Store(uint64(now)) }

func (r *record) setView(v View) {
	exited := uint64(0)
	if v.Exited {
		exited = 1
	}
	r.write(wordSeq, func() {
		r.word[wordRun].Store(v.Run)
		r.word[wordState].Store(uint64(v.State))
		r.word[wordPID].Store(uint64(v.PID))
		r.word[wordSince].Store(uint64(v.Since))
		r.word[wordVerdict].Store(uint64(v.Verdict))
		r.word[wordEpoch].Store(v.Epoch)
		r.word[wordDeadline].Store(uint64(v.Deadline))
		r.word[wordLateness].Store(uint64(v.WorstLateness))
		r.word[wordFenceLate].Store(v.FenceLate)
		r.word[wordExited].Store(exited)
		r.word[wordExitStatus].Store(uint64(v.WaitStatus))
	})
}

func (r *record) view() (v View, ok bool) {
	ok = r.read(wordSeq, func() {
		v = View{
			Run:           r.word[wordRun].Load(),
			State:         State(r.word[wordState].Load()),
			PID:           int(r.word[wordPID].Load()),
			Since:         time.Duration(r.word[wordSince].Load()),
			Verdict:       Verdict(r.word[wordVerdict].Load()),
			Epoch:         r.word[wordEpoch].Load(),
			Deadline:      time.Duration(r.word[wordDeadline].Load()),
			WorstLateness: time.Duration(r.word[wordLateness].Load()),
			FenceLate:     r.word[wordFenceLate].Load(),
			Exited:        r.word[wordExited].Load() == 1,
			WaitStatus:    uint32(r.word[wordExitStatus].Load()),
			GuardPID:      int(r.word[wordGuardPID].Load()),
		}
	})
	v.Tick = time.Duration(r.word[wordTick].Load())
	return v, ok
}

// bootID names this boot of the machine, so that a pid of another isn't trusted.
func bootID() ([2]uint64, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return [2]uint64{}, fmt.Errorf("read the boot id: %w", err)
	}
	var raw []byte
	if _, err := fmt.Sscanf(strings.ReplaceAll(strings.TrimSpace(string(b)), "-", ""), "%x", &raw); err != nil || len(raw) != 16 {
		return [2]uint64{}, fmt.Errorf("parse the boot id %q", b)
	}
	return [2]uint64{binary.BigEndian.Uint64(raw), binary.BigEndian.Uint64(raw[8:])}, nil
}
