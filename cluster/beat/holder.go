package beat

import (
	"context"
	"time"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// askVouch decides whether this beat asks for vouches, and if so notes it with the send time.
func (s *Service) askVouch(state fsm.State, report failover.Report, seq uint64) (lease.Beat, bool) {
	may := state.Primary == s.Self && s.MayHold(state.Epoch)
	s.holderLock.Lock()
	defer s.holderLock.Unlock()
	defer s.publishLease()
	if r := report.Released; r != nil && r.Node == s.Self {
		s.holder.Stop(r.Epoch)
	}
	s.obey(state)
	if !may || !s.holder.Start(state.Epoch, s.Self) {
		return lease.Beat{}, false
	}
	l := leaseLength(state)
	s.holder.Sent(seq, s.Boot(), state.Electorate.Voters, l)
	return lease.Beat{
		Epoch:       state.Epoch,
		Node:        s.Self,
		Incarnation: s.incarnation,
		Seq:         seq,
		L:           l,
		Electorate:  state.Electorate.Version,
	}, true
}

// obey stops a holder whose state names somebody else. Called with the holder's lock held.
func (s *Service) obey(state fsm.State) {
	if state.Primary != s.Self {
		s.holder.Higher(state.Epoch)
	}
}

// vouchForSelf puts this node's own beats to its own voter, apart from the sending loop: a slow disk must cost this
// node's vouch, not its beats.
func (s *Service) vouchForSelf(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-s.selfBeats:
			reply, err := s.voter.vouch(b)
			if err != nil {
				s.Logger.Error("own voter can't vouch", "error", err)
			}
			if reply.Yes {
				s.count(s.Self, b.Seq, b.Epoch)
			}
		}
	}
}

// count adds a vouch for this incarnation's beat seq, and tells OnLease when it made a majority.
func (s *Service) count(voter fsm.NodeID, seq uint64, epoch fsm.Epoch) {
	state := s.State()
	s.holderLock.Lock()
	defer s.holderLock.Unlock()
	defer s.publishLease()
	s.obey(state)
	had := s.holder.Until()
	until, extended := s.holder.Vouched(voter, s.incarnation, seq, epoch)
	if !extended {
		return
	}
	s.OnLease(epoch, until)
	if now := s.Boot(); had <= now && until > now {
		s.Logger.Info("lease gained", "epoch", epoch, "left", until-now)
	}
}

// higher takes note that a voter has applied epoch with another primary than this node.
func (s *Service) higher(epoch fsm.Epoch) {
	state := s.State()
	s.holderLock.Lock()
	s.holder.Higher(epoch)
	s.publishLease()
	tell := state.Primary == s.Self && state.Epoch < epoch && s.told < epoch
	if tell {
		s.told = epoch
	}
	s.holderLock.Unlock()
	if tell {
		s.Logger.Info("lease ended: a voter has a later epoch", "epoch", state.Epoch, "later", epoch)
		s.OnHigher(epoch)
	}
}

// Release says that this node stopped serving epoch and never will again; the caller has made that durable. When it
// returns, OnLease has been told of its last extension of epoch.
func (s *Service) Release(epoch fsm.Epoch) {
	s.holderLock.Lock()
	if s.holder.Stop(epoch) {
		s.Logger.Info("lease ended: released", "epoch", epoch)
	}
	s.publishLease()
	s.holderLock.Unlock()
	s.Kick()
}

// Lease is the epoch held and the end of its lease on the clock of Boot, which may be over; zeros when there is none.
func (s *Service) Lease() (fsm.Epoch, time.Duration) {
	h := s.held.Load()
	return h.epoch, h.until
}

// publishLease makes Lease show what the holder says. Called with the holder's lock held.
func (s *Service) publishLease() {
	epoch, until := s.holder.Epoch(), s.holder.Until()
	if h := s.held.Load(); h.epoch != epoch || h.until != until {
		s.held.Store(&heldLease{epoch: epoch, until: until})
	}
}
