package fsm

import (
	"errors"
	"fmt"
)

// Why a command was refused. Every refusal wraps exactly one of these and says in words what was found, what was needed
// and, where it can, what to do; a refused command has changed nothing.
var (
	// ErrNoCluster refuses everything but Init before Init.
	ErrNoCluster = errors.New("the cluster is not initialised")
	// ErrInvalid refuses what makes no sense under any state.
	ErrInvalid = errors.New("invalid command")
	// ErrDuplicate refuses a request id that was applied already: to the sender that is success.
	ErrDuplicate = errors.New("request was applied already")
	// ErrStaleRev refuses a command whose preconditions were evaluated under another Rev: look again and decide again.
	ErrStaleRev = errors.New("revision has changed")
	// ErrStaleEpoch refuses what was said about an epoch, or as the primary of one, that is not the present one.
	ErrStaleEpoch = errors.New("epoch has changed")
	// ErrNotMember refuses a node that the cluster does not know.
	ErrNotMember = errors.New("not a member")
	// ErrNotElectable refuses a primary that may not be one: a witness, or a node with nofailover.
	ErrNotElectable = errors.New("node may not become primary")
	// ErrPaused refuses what a paused cluster does not do.
	ErrPaused = errors.New("the cluster is paused")
	// ErrEvidence refuses an Appoint whose evidence does not prove that it is safe.
	ErrEvidence = errors.New("evidence does not suffice")
	// ErrLineage refuses a timeline that contradicts the history of the cluster.
	ErrLineage = errors.New("timeline contradicts the lineage")
	// ErrSystemID refuses a primary whose data comes from another initdb.
	ErrSystemID = errors.New("another system identifier")
	// ErrUnsafeSync refuses a sync rule that is malformed or could lose what the present one acknowledged.
	ErrUnsafeSync = errors.New("unsafe sync rule")
	// ErrElectorate refuses an electorate that is not exactly one addition or one removal away.
	ErrElectorate = errors.New("electorate change refused")
	// ErrExists refuses what is there, or is so, already.
	ErrExists = errors.New("exists already")
	// ErrNoWish refuses to approve or end a wish that is not the pending one.
	ErrNoWish = errors.New("no such wish")
	// ErrStaleConfig refuses an edit of a configuration that was edited meanwhile.
	ErrStaleConfig = errors.New("configuration has changed")
	// ErrNoDiscard refuses to dismiss a discard that is not known.
	ErrNoDiscard = errors.New("no such discard")
	// ErrUnknownCommand marks a command that this version does not know; see UnknownCommandError.
	ErrUnknownCommand = errors.New("unknown command")
	// ErrFormat marks bytes that are not an encoded command or state of a format that this version reads.
	ErrFormat = errors.New("unknown format")
)

// UnknownCommandError is a well-formed command of a kind that this version does not know. It is ErrUnknownCommand. A node
// that skips one which is not Optional has left the replicated truth, so it must halt instead.
type UnknownCommandError struct {
	Kind     string
	Optional bool // the sender says that a node which skips it misses nothing that others compute from
}

// Error says which kind and whether it may be skipped.
func (e *UnknownCommandError) Error() string {
	if e.Optional {
		return fmt.Sprintf("%v %q, which may be skipped", ErrUnknownCommand, e.Kind)
	}
	return fmt.Sprintf("%v %q: this node must be upgraded before it goes on", ErrUnknownCommand, e.Kind)
}

// Unwrap makes it ErrUnknownCommand.
func (e *UnknownCommandError) Unwrap() error { return ErrUnknownCommand }
