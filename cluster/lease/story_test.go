package lease

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/quorate/quorate/fsm"
)

// TestStories tells what one voter and one holder of three answer. Every command has at=<time>; a voter's record is on
// disk as soon as it asks for that, unless the command says crash.
func TestStories(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		s := &story{voter: NewVoter(VoterRecord{ID: "n2"}, 0), disk: VoterRecord{ID: "n2"}, holder: NewHolder(1)}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.tell(t, d) })
	})
}

type story struct {
	voter  *Voter
	disk   VoterRecord
	holder *Holder
}

func (s *story) tell(t *testing.T, d *datadriven.TestData) string {
	var epoch, seq, inc uint64 = 1, 1, 1
	at, l := duration(t, d, "at", 0), duration(t, d, "l", 800*time.Millisecond)
	d.MaybeScanArgs(t, "epoch", &epoch)
	d.MaybeScanArgs(t, "seq", &seq)
	d.MaybeScanArgs(t, "inc", &inc)
	from := "n2"
	d.MaybeScanArgs(t, "from", &from)
	e := fsm.Epoch(epoch)
	switch d.Cmd {
	case "vouch":
		b := Beat{Epoch: e, Node: "n1", Incarnation: inc, Seq: seq, L: l}
		reply, rec := s.voter.Vouch(at, b)
		said := ""
		if rec != nil && !d.HasArg("crash") {
			said = fmt.Sprintf("writes sealed=%d lmax=%v\n", rec.Sealed, rec.Lmax)
			s.save(*rec)
			reply, _ = s.voter.Vouch(at, b)
		}
		return said + fmt.Sprintf("yes=%v sealed=%d\n", reply.Yes, reply.Sealed)
	case "seal":
		rec, changed := s.voter.Seal(e)
		if d.HasArg("crash") {
			return fmt.Sprintf("was to write sealed=%d\n", rec.Sealed)
		}
		if changed {
			s.save(rec)
		}
		r := s.voter.SealReply(at)
		return fmt.Sprintf("written=%v sealed=%d left=%v ago=%v never=%v\n", changed, r.Epoch, r.Left, r.VouchedAgo, r.NeverVouched)
	case "ask":
		r := s.voter.AskReply(at, e)
		return fmt.Sprintf("ago=%v never=%v sealed=%d\n", r.VouchedAgo, r.NeverVouched, r.Sealed)
	case "restart":
		s.voter = NewVoter(s.disk, at)
		return fmt.Sprintf("sealed=%d lmax=%v\n", s.disk.Sealed, s.disk.Lmax)
	case "start":
		return fmt.Sprintf("%v\n", s.holder.Start(e, "n1")) + s.holds()
	case "sent":
		s.holder.Sent(seq, at, []fsm.NodeID{"n1", "n2", "n3"}, l)
		return s.holds()
	case "vouched":
		_, extended := s.holder.Vouched(fsm.NodeID(from), inc, seq, e)
		return fmt.Sprintf("extended=%v\n", extended) + s.holds()
	case "stop":
		return fmt.Sprintf("%v\n", s.holder.Stop(e)) + s.holds()
	case "higher":
		return fmt.Sprintf("%v\n", s.holder.Higher(e)) + s.holds()
	}
	t.Fatalf("unknown command %q", d.Cmd)
	return ""
}

func (s *story) save(rec VoterRecord) {
	s.disk = rec
	s.voter.Persisted(rec)
}

func (s *story) holds() string {
	return fmt.Sprintf("epoch=%d until=%v\n", s.holder.Epoch(), s.holder.Until())
}

func duration(t *testing.T, d *datadriven.TestData, arg string, otherwise time.Duration) time.Duration {
	text := otherwise.String()
	d.MaybeScanArgs(t, arg, &text)
	v, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestWaitCoversDrift checks the formula where it matters: in real time, a lease of L on the slowest clock is over
// before the fastest voter and the fastest waiter have counted Wait(L).
func TestWaitCoversDrift(t *testing.T) {
	for l := time.Nanosecond; l <= MaxL; l = l*3 + 7 {
		// real = local/(1-rho) and local/(1+rho), times 99*101 to stay in integers.
		if lease, wait := int64(l)*101, int64(Wait(l))*99; wait < lease || wait-lease >= 99*2 {
			t.Errorf("L=%v: the lease lasts %d, the wait %d", l, lease, wait)
		}
	}
}

func TestVoterRefusesAnAbsurdLease(t *testing.T) {
	for _, l := range []time.Duration{-1, 0, MaxL + 1, 1<<63 - 1} {
		v := NewVoter(VoterRecord{ID: "n1", Lmax: MaxL}, 0)
		if r, rec := v.Vouch(0, Beat{Epoch: 1, L: l}); r.Yes || rec != nil {
			t.Errorf("L=%d: %+v, %+v", l, r, rec)
		}
	}
}
