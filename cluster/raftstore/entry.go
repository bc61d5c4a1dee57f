package raftstore

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"time"

	"github.com/hashicorp/raft"
)

// An entry is kept under its index (8 bytes, big-endian) as, all big-endian: the version of this form (1 byte), the type (1), the
// term (8), when it was appended (8; nanoseconds since 1970, 0: not known), the sum of the entry before it (4; 0: that is not
// there), the length of the extensions (4), the extensions, the data, and the CRC-32C of the key and of all that (4).
const (
	entryForm = 1
	keySize   = 8
	sumSize   = 4
	headSize  = 1 + 1 + 8 + 8 + sumSize + 4
)

// stored is an entry as it was kept.
type stored struct {
	entry    raft.Log
	previous uint32 // the sum of the entry before it
	sum      uint32
}

func key(index uint64) []byte { return binary.BigEndian.AppendUint64(nil, index) }

// encode renders an entry that follows one with the sum previous.
func encode(entry *raft.Log, previous uint32) []byte {
	at := int64(0)
	if !entry.AppendedAt.IsZero() {
		at = entry.AppendedAt.UnixNano()
	}
	v := make([]byte, 0, headSize+len(entry.Extensions)+len(entry.Data)+sumSize)
	v = append(v, entryForm, byte(entry.Type))
	v = binary.BigEndian.AppendUint64(v, entry.Term)
	v = binary.BigEndian.AppendUint64(v, uint64(at))
	v = binary.BigEndian.AppendUint32(v, previous)
	v = binary.BigEndian.AppendUint32(v, uint32(len(entry.Extensions)))
	v = append(append(v, entry.Extensions...), entry.Data...)
	return binary.BigEndian.AppendUint32(v, sumOf(key(entry.Index), v))
}

// sumOf is the sum of what is kept under a key.
func sumOf(k, v []byte) uint32 { return crc32.Update(crc32.Checksum(k, castagnoli), castagnoli, v) }

// sumIn is the sum at the end of what encode gave, 0 where none fits.
func sumIn(v []byte) uint32 {
	if len(v) < sumSize {
		return 0
	}
	return binary.BigEndian.Uint32(v[len(v)-sumSize:])
}

// decode gives back what encode was given, or ErrDamaged. It keeps nothing of k and v, which are bbolt's.
func decode(k, v []byte) (stored, error) {
	if len(k) != keySize || len(v) < headSize+sumSize {
		return stored{}, fmt.Errorf("%w: key %x with %d bytes is no entry", ErrDamaged, k, len(v))
	}
	index := binary.BigEndian.Uint64(k)
	body := v[:len(v)-sumSize]
	e := stored{sum: sumIn(v), previous: binary.BigEndian.Uint32(v[18:])}
	if sum := sumOf(k, body); sum != e.sum {
		return stored{}, fmt.Errorf("%w: entry %d has the checksum %08x, computed %08x", ErrDamaged, index, e.sum, sum)
	}
	rest, extensions := body[headSize:], binary.BigEndian.Uint32(v[22:])
	if v[0] != entryForm || uint64(extensions) > uint64(len(rest)) {
		return stored{}, fmt.Errorf("%w: entry %d is of form %d, this release knows %d", ErrDamaged, index, v[0], entryForm)
	}
	e.entry = raft.Log{Index: index, Type: raft.LogType(v[1]), Term: binary.BigEndian.Uint64(v[2:])}
	if at := int64(binary.BigEndian.Uint64(v[10:])); at != 0 {
		e.entry.AppendedAt = time.Unix(0, at)
	}
	if extensions > 0 {
		e.entry.Extensions = bytes.Clone(rest[:extensions])
	}
	if data := rest[extensions:]; len(data) > 0 {
		e.entry.Data = bytes.Clone(data)
	}
	return e, nil
}
