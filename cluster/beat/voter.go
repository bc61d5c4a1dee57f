package beat

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/quorate/quorate/cluster/lease"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/internal/durable"
)

// voterFileVersion is that of voter.bin.
const voterFileVersion = 1

// ErrPromisesLost says that voter.bin can't be trusted: what this node promised never to do is unknown, and to vouch
// again could make two primaries.
var ErrPromisesLost = errors.New("the disk lost this node's promises; the node must be replaced under a new id")

// voter is the one lease.Voter of this node together with its file. lock, a channel so that waiting for it can be given
// up, is held over the whole of check, record and reply.
type voter struct {
	lock   chan struct{}
	path   string
	boot   func() time.Duration
	lease  *lease.Voter
	sealed atomic.Uint64 // the durable seal, readable while a slow disk holds the lock
}

// openVoter reads the record at path, or makes it.
func openVoter(path string, self fsm.NodeID, boot func() time.Duration) (*voter, error) {
	rec, err := durable.Load[lease.VoterRecord](path, voterFileVersion)
	switch {
	case errors.Is(err, durable.ErrAbsent):
		rec = lease.VoterRecord{ID: self}
		if err := durable.Save(path, voterFileVersion, rec); err != nil {
			return nil, fmt.Errorf("make voter record: %w", err)
		}
	case errors.Is(err, durable.ErrDamaged):
		return nil, fmt.Errorf("%w: %w", ErrPromisesLost, err)
	case err != nil:
		return nil, fmt.Errorf("read voter record: %w", err)
	case rec.ID != self:
		return nil, fmt.Errorf("%w: %s holds the promises of node %s, this is node %s", ErrPromisesLost, path, rec.ID, self)
	case rec.Lmax < 0 || rec.Lmax > lease.MaxL:
		// What it would be busy for could wrap around, and then it would count as free.
		return nil, fmt.Errorf("%w: %s says that it vouched for a lease of %s, 0 to %s are possible", ErrPromisesLost, path, rec.Lmax, lease.MaxL)
	}
	v := &voter{lock: make(chan struct{}, 1), path: path, boot: boot, lease: lease.NewVoter(rec, boot())}
	v.sealed.Store(uint64(rec.Sealed))
	return v, nil
}

// vouch answers b. A failed write is an error beside a reply that says no.
func (v *voter) vouch(b lease.Beat) (lease.VouchReply, error) {
	v.lock <- struct{}{}
	defer func() { <-v.lock }()
	reply, rec := v.lease.Vouch(v.boot(), b)
	if rec == nil {
		return reply, nil
	}
	if err := v.persist(*rec); err != nil {
		return reply, err
	}
	reply, _ = v.lease.Vouch(v.boot(), b)
	return reply, nil
}

// seal makes the promise durable and answers what is left of the last vouch. ctx bounds only the wait for the lock.
func (v *voter) seal(ctx context.Context, epoch fsm.Epoch) (lease.SealReply, error) {
	select {
	case v.lock <- struct{}{}:
	case <-ctx.Done():
		return lease.SealReply{}, fmt.Errorf("wait for the voter, whose disk is slow: %w", ctx.Err())
	}
	defer func() { <-v.lock }()
	if rec, changed := v.lease.Seal(epoch); changed {
		if err := v.persist(rec); err != nil {
			return lease.SealReply{}, err
		}
	}
	return v.lease.SealReply(v.boot()), nil
}

// ask answers when this voter last vouched for epoch; see seal for ctx.
func (v *voter) ask(ctx context.Context, epoch fsm.Epoch) (lease.AskReply, error) {
	select {
	case v.lock <- struct{}{}:
	case <-ctx.Done():
		return lease.AskReply{}, fmt.Errorf("wait for the voter, whose disk is slow: %w", ctx.Err())
	}
	defer func() { <-v.lock }()
	return v.lease.AskReply(v.boot(), epoch), nil
}

// persist is called with the lock held.
func (v *voter) persist(rec lease.VoterRecord) error {
	if keepsPromises {
		if err := durable.Save(v.path, voterFileVersion, rec); err != nil {
			return fmt.Errorf("write voter record: %w", err)
		}
	}
	v.lease.Persisted(rec)
	v.sealed.Store(uint64(rec.Sealed))
	return nil
}

// Seal promises, durably, never again to vouch for an epoch <= epoch. What is left of the last vouch is rounded up; the
// caller waits that long from the receipt. On an error nothing was promised that anybody may rely on. ctx bounds only
// the wait for another caller's write.
func (s *Service) Seal(ctx context.Context, epoch fsm.Epoch) (lease.SealReply, error) {
	return s.voter.seal(ctx, epoch)
}

// Ask says when this node last vouched for epoch. It promises nothing. ctx bounds the wait for another caller's write.
func (s *Service) Ask(ctx context.Context, epoch fsm.Epoch) (lease.AskReply, error) {
	return s.voter.ask(ctx, epoch)
}
