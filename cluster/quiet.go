package cluster

import (
	"slices"

	"github.com/hashicorp/go-hclog"
)

// quiet is the logger handed to raft. Raft repeats several times a second that a dead peer does not answer, which the
// beats say once; and its view of elections is of use only to who debugs raft. Everything it says below an error, and
// every error of that kind, becomes Debug.
type quiet struct{ hclog.Logger }

// Info lowers what raft calls news.
func (q quiet) Info(msg string, args ...any) { q.Debug(msg, args...) }

// Warn lowers what raft warns of: votes refused, heartbeats missed.
func (q quiet) Warn(msg string, args ...any) { q.Debug(msg, args...) }

// Error keeps what may mean a fault of this node.
func (q quiet) Error(msg string, args ...any) {
	peerTrouble := []string{
		"failed to heartbeat to", "failed to appendEntries to", "failed to make requestVote RPC", "failed to pipeline appendEntries",
		"failed to start pipeline replication to", "failed to send snapshot to", "peer has newer term, stopping replication", "failed to flush response",
		"failed to decode incoming command",
	}
	if slices.Contains(peerTrouble, msg) {
		q.Debug(msg, args...)
		return
	}
	q.Logger.Error(msg, args...)
}
