package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// Raft's own store has a checksum of a snapshot's content and none of what it says about it, in a file of its own: where it
// stands in the log and who are the voters then. So each snapshot begins with a checksum of that: snapshotForm and the CRC-32C,
// big-endian.
const snapshotForm = "quorate\x01"

// snapshotHead is how much of a snapshot is ours.
const snapshotHead = len(snapshotForm) + 4

// Snapshots are Raft's snapshots in a directory. One of which anything is not what was written can't be opened.
type Snapshots struct{ raft.SnapshotStore }

// OpenSnapshots opens or creates the snapshots in dir, of which the newest are kept.
func OpenSnapshots(dir string, keep int, logger hclog.Logger) (Snapshots, error) {
	store, err := raft.NewFileSnapshotStoreWithLogger(dir, keep, logger)
	if err != nil {
		return Snapshots{}, fmt.Errorf("open raft snapshots: %w", err)
	}
	return Snapshots{store}, nil
}

// aboutSum is the checksum of what is said about a snapshot.
func aboutSum(m raft.SnapshotMeta) uint32 {
	about := binary.BigEndian.AppendUint64(nil, uint64(m.Version))
	for _, number := range []uint64{m.Index, m.Term, m.ConfigurationIndex} {
		about = binary.BigEndian.AppendUint64(about, number)
	}
	return crc32.Checksum(append(about, raft.EncodeConfiguration(m.Configuration)...), castagnoli)
}

// Create begins a snapshot.
func (s Snapshots) Create(version raft.SnapshotVersion, index, term uint64, voters raft.Configuration, votersIndex uint64,
	trans raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(version, index, term, voters, votersIndex, trans)
	if err != nil {
		return nil, err
	}
	sum := aboutSum(raft.SnapshotMeta{
		Version: version, Index: index, Term: term, Configuration: voters, ConfigurationIndex: votersIndex,
	})
	if _, err := sink.Write(binary.BigEndian.AppendUint32([]byte(snapshotForm), sum)); err != nil {
		return nil, errors.Join(err, sink.Cancel())
	}
	return sink, nil
}

// Open gives a snapshot's content after all of it was checked. ErrDamaged, or errors of Raft's store.
func (s Snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, content, err := s.checked(id)
	if err != nil {
		return nil, nil, err
	}
	size, err := io.Copy(io.Discard, content)
	if err := errors.Join(err, content.Close()); err != nil {
		return nil, nil, fmt.Errorf("read raft snapshot %s: %w", id, err)
	}
	if m.Size -= int64(snapshotHead); m.Size != size { // Raft sends as much to a follower, whose store adds its own
		return nil, nil, fmt.Errorf("%w: raft snapshot %s has %d bytes and shall have %d", ErrDamaged, id, size, m.Size)
	}
	_, content, err = s.checked(id)
	return m, content, err
}

// checked opens a snapshot whose checksums are right, at what is not ours.
func (s Snapshots) checked(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	m, content, err := s.SnapshotStore.Open(id)
	if err != nil {
		return nil, nil, err
	}
	head := make([]byte, snapshotHead)
	_, err = io.ReadFull(content, head)
	if err != nil || m.ID != id || !bytes.Equal(head, binary.BigEndian.AppendUint32([]byte(snapshotForm), aboutSum(*m))) {
		return nil, nil, errors.Join(fmt.Errorf("%w: what is said about raft snapshot %s", ErrDamaged, id), err, content.Close())
	}
	return m, content, nil
}
