package guard

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
)

// rejector refuses new connections to a frozen Postgres: the kernel would complete their handshakes, and a client would
// wait for an answer until the kill, or for its whole connect_timeout. The deadline thread only says what shall be; a
// goroutine of its own talks to the kernel, whose table may be locked by somebody else's long change.
type rejector struct {
	filter *netfilter // nil where it may not be used
	want   atomic.Pointer[[]netip.AddrPort]
	wake   chan struct{}
	log    hclog.Logger
}

// newRejector finds out by trying whether packets may be filtered here; why is "yes", or "no: " and the reason.
func newRejector(id identity, log hclog.Logger) (r *rejector, why string) {
	r = &rejector{wake: make(chan struct{}, 1), log: log}
	// The name differs from that of every other guard in the same network namespace, which may see other pids.
	f, err := openNetfilter(fmt.Sprintf("quorate-guard-%d-%d", id.pid, id.start))
	if err != nil {
		return r, "no: " + err.Error()
	}
	nobody := []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), 0)} // no connection goes to port 0
	if err = f.refuse(nobody); err == nil {
		err = f.allow()
	}
	if err != nil {
		_ = f.close()
		return r, "no: " + err.Error()
	}
	r.filter = f
	return r, "yes"
}

// set says whose new connections are refused from now on, nil for nobody's. It never waits.
func (r *rejector) set(to []netip.AddrPort) {
	if r.filter == nil {
		return
	}
	r.want.Store(&to)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// run follows what set says; only the newest counts.
func (r *rejector) run() {
	refusing := false
	for range r.wake {
		began := Now()
		to := *r.want.Load()
		var err error
		switch {
		case len(to) > 0 && !refusing:
			err = r.filter.refuse(to)
		case len(to) == 0 && refusing:
			err = r.filter.allow()
		default:
			continue
		}
		if err != nil {
			r.log.Warn("the packet filter did not obey", "refuse", len(to) > 0, "error", err)
			// It may have been obeyed without a word. Connections refused for ever would be worse than the gap: the table
			// goes with its socket.
			r.reopen()
			refusing = false
			continue
		}
		refusing = len(to) > 0
		r.log.Info("new connections", "refused", refusing, "took", (Now() - began).Round(time.Microsecond).String())
	}
}

// reopen gets rid of the table by closing its socket.
func (r *rejector) reopen() {
	_ = r.filter.close()
	r.filter.fd = -1
	f, err := openNetfilter(r.filter.table)
	if err != nil {
		r.log.Error("new connections are no longer refused while frozen", "error", err)
		return
	}
	r.filter.fd = f.fd
}
