package sim

import (
	"strconv"
	"time"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/fsm"
)

// host is one machine: a clock, a disk, and up to three things that run on it.
type host struct {
	w       *World
	index   int
	id      fsm.NodeID
	name    string
	role    fsm.Role
	joins   bool // it is no member from the start
	started bool // it was let in
	wiped   int  // how often; it is another member each time
	release uint64

	up     bool
	rate   float64       // of its clock against true time, 1 % either way at most
	booted time.Duration // in true time
	disk   disk

	agent  agent
	keeper keeper
	server server
	data   instance
}

// boot is CLOCK_BOOTTIME: time since boot, at this host's own rate.
func (h *host) boot() time.Duration {
	return time.Duration(float64(h.w.now-h.booted) * h.rate)
}

// later schedules an event of p, delay later by this host's clock.
func (h *host) later(p *process, delay time.Duration, do func()) {
	h.w.after(p, time.Duration(float64(delay)/h.rate), do)
}

// wipe makes an empty machine of it, which is no member.
func (h *host) wipe() {
	h.powerOff()
	h.wiped++
	h.id = fsm.NodeID(h.name + "." + strconv.Itoa(h.wiped))
	h.disk, h.data, h.release = disk{slow: h.disk.slow}, instance{h: h}, h.w.release
	h.joins, h.started = true, false
}

// reaches says that a connection to o works, both ways.
func (h *host) reaches(o *host) bool {
	return h.w.net.open(h.index, o.index) && h.w.net.open(o.index, h.index)
}

// disk is what a host has on disk of the daemon's, and how the disk does. What PostgreSQL has is in instance and server.
type disk struct {
	hangs     time.Duration // until then nothing is written
	hungSince time.Duration
	slow      time.Duration // more per write

	// Of Raft: term and vote, a snapshot, and the log after it, which survives a loss of power up to the entry synced.
	term, vote uint64 // vote is 1 + the index of the candidate's host, 0 for nobody
	snap       snapshot
	log        []*entry
	synced     uint64
	formed     bool

	state      fsm.State // state.bin
	stateIndex uint64
	voter      lease.VoterRecord
	served     fsm.Epoch
	released   *fsm.Release
	promise    *fsm.Promise
	paused     bool // guard.paused
}

// hung says that the disk takes nothing now.
func (h *host) hung() bool { return h.w.now < h.disk.hangs }

// dropUnsynced is what a loss of power does to the log.
func (d *disk) dropUnsynced() { d.log = append([]*entry(nil), d.log[:d.synced-d.snap.index]...) }

// write makes effect durable after a while and then goes on as p. Without a hang it takes milliseconds. When p ends
// meanwhile, the write may have come through or not; when the host loses power it has not.
func (h *host) write(p *process, effect, then func()) {
	delay := h.w.between(500*time.Microsecond, 3*time.Millisecond) + h.disk.slow
	if h.hung() {
		delay += h.disk.hangs - h.w.now
	}
	gen, boots := p.gen, h.booted
	h.w.at(delay, func() {
		switch {
		case !h.up || h.booted != boots:
		case p.gen == gen:
			effect()
			if then != nil {
				h.w.after(p, 0, then)
			}
		case h.w.chance(0.5):
			effect()
		}
	})
}
