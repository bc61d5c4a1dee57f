package cluster

import (
	"errors"

	"github.com/quorate/quorate/cluster/lead"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/transport"
)

var (
	// ErrNoLeader says that the cluster had no leader for as long as the caller waited: nothing was changed.
	ErrNoLeader = errors.New("the cluster has no leader")
	// ErrUnknownOutcome says that a command was handed to a leader and nobody told what became of it: it may have been
	// applied, or be applied still.
	ErrUnknownOutcome = errors.New("the outcome is unknown")
	// ErrNotMember says that this node belongs to no cluster yet.
	ErrNotMember = errors.New("this node belongs to no cluster yet")
	// ErrOtherCluster refuses what another cluster sent.
	ErrOtherCluster = errors.New("another cluster")
	// ErrRaftLost says that the raft directory is empty though this node took part in Raft: its votes and its log are
	// gone, and a node without memory of its votes may never vote again.
	ErrRaftLost = errors.New("the raft directory was lost")
	// ErrStateLost says that a file of cluster.data_dir is gone that this node certainly had: what it promised or knew is
	// lost with it, and it must come back as a new member.
	ErrStateLost = errors.New("a part of this node's state was lost")

	// ErrUnfit refuses a membership as asked for; the text says why and what would work. Nothing was changed.
	ErrUnfit = errors.New("refused")
	// ErrNobody says that none of the nodes that were asked let this one in or refused it: they did not answer, or have no leader.
	ErrNobody = errors.New("nobody let this node in")
	// ErrNotYet says that the same may work in a moment: something that was begun must end first.
	ErrNotYet = errors.New("not yet")

	// errNotLeader: this node does not lead and did nothing.
	errNotLeader = errors.New("this node does not lead")
	// errHalted: an entry of the log could not be applied here, so no later one is.
	errHalted = errors.New("this node has stopped applying the log")
	// errNotRunning: Raft is not running here, and nothing was done.
	errNotRunning = errors.New("raft is not running on this node")
)

// wireErrors are the errors whose identity crosses the wire, with their codes there. A code never changes its meaning.
func wireErrors() []struct {
	code string
	err  error
} {
	return []struct {
		code string
		err  error
	}{
		{"no-cluster", fsm.ErrNoCluster},
		{"invalid", fsm.ErrInvalid},
		{"duplicate", fsm.ErrDuplicate},
		{"stale-rev", fsm.ErrStaleRev},
		{"stale-epoch", fsm.ErrStaleEpoch},
		{"stale-config", fsm.ErrStaleConfig},
		{"not-a-member", fsm.ErrNotMember},
		{"not-electable", fsm.ErrNotElectable},
		{"paused", fsm.ErrPaused},
		{"evidence", fsm.ErrEvidence},
		{"lineage", fsm.ErrLineage},
		{"system-id", fsm.ErrSystemID},
		{"unsafe-sync", fsm.ErrUnsafeSync},
		{"electorate", fsm.ErrElectorate},
		{"exists", fsm.ErrExists},
		{"no-wish", fsm.ErrNoWish},
		{"unknown-command", fsm.ErrUnknownCommand},
		{"format", fsm.ErrFormat},
		{"not-leader", errNotLeader},
		{"not-running", errNotRunning},
		{"unknown-outcome", ErrUnknownOutcome},
		{"no-member-yet", ErrNotMember},
		{"other-cluster", ErrOtherCluster},
		{"refused", lead.ErrRefused},
		{"unfit", ErrUnfit},
		{"not-yet", ErrNotYet},
	}
}

// toWire gives err the code of the known error it wraps.
func toWire(err error) error {
	if err == nil {
		return nil
	}
	for _, w := range wireErrors() {
		if errors.Is(err, w.err) {
			return &transport.RemoteError{Code: w.code, Message: err.Error()}
		}
	}
	return err
}

// fromWire makes errors.Is find on this side what it found on the other.
func fromWire(err error) error {
	var remote *transport.RemoteError
	if !errors.As(err, &remote) {
		return err
	}
	for _, w := range wireErrors() {
		if remote.Code == w.code {
			return &remoteError{is: w.err, text: remote.Message}
		}
	}
	return err
}

// remoteError is a known error of another node, in that node's words.
type remoteError struct {
	is   error
	text string
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.is }
