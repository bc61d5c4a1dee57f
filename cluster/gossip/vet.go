package gossip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// The messages of memberlist that there are here, by their first byte. Compression is off, encryption is not memberlist's,
// and nobody sends messages of his own: others are refused.
const (
	msgPing = iota
	msgIndirectPing
	msgAck
	msgSuspect
	msgAlive
	msgDead
	msgPushPull
	msgCompound
	msgNack  = 11
	msgCRC   = 12
	msgError = 13
	msgLabel = 244
)

const (
	// versions is how many numbers say what a node speaks. Of a state memberlist reads them without counting, and dies of fewer.
	versions = 6
	// maxNodes is more than a cluster has members.
	maxNodes = 256
)

// errMalformed says that a message would not be understood, or would end the process.
var errMalformed = errors.New("malformed gossip")

// The messages that are looked into, with the fields of memberlist's in their order: an encoding may name fields or count them.
type (
	alive struct {
		Incarnation uint32
		Node        string
		Addr        []byte
		Port        uint16
		Meta, Vsn   []byte
	}
	stateHead struct {
		Nodes, UserStateLen int
		Join                bool
	}
	nodeState struct {
		Name        string
		Addr        []byte
		Port        uint16
		Meta        []byte
		Incarnation uint32
		State       int
		Vsn         []byte
	}
)

func vetVersions(v []byte) error {
	if len(v) != versions {
		return fmt.Errorf("%w: %d versions of a node, not %d", errMalformed, len(v), versions)
	}
	return nil
}

// vetPacket says whether memberlist may have a packet, label and all.
func vetPacket(packet []byte) error {
	b, _, err := memberlist.RemoveLabelHeaderFromPacket(packet)
	if err != nil {
		return err
	}
	if len(b) >= 5 && b[0] == msgCRC {
		b = b[5:]
	}
	if len(b) > 0 && b[0] == msgCompound {
		return vetCompound(b[1:])
	}
	return vetMessage(b)
}

// vetCompound looks at each of several messages: their number, their lengths in two bytes each, and they themselves. What
// was cut off is left out, as memberlist does.
func vetCompound(b []byte) error {
	if len(b) < 1 || len(b) < 1+2*int(b[0]) {
		return fmt.Errorf("%w: a compound message without its lengths", errMalformed)
	}
	lengths, rest := b[1:1+2*int(b[0])], b[1+2*int(b[0]):]
	for ; len(lengths) > 0; lengths = lengths[2:] {
		n := int(binary.BigEndian.Uint16(lengths))
		if n > len(rest) {
			return nil
		}
		if err := vetMessage(rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

func vetMessage(b []byte) error {
	if len(b) == 0 {
		return fmt.Errorf("%w: an empty message", errMalformed)
	}
	switch b[0] {
	case msgPing, msgIndirectPing, msgAck, msgSuspect, msgDead, msgNack:
		return nil
	case msgAlive:
		var a alive
		if err := codec.NewDecoder(bytes.NewReader(b[1:]), &codec.MsgpackHandle{}).Decode(&a); err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		return vetVersions(a.Vsn)
	}
	return fmt.Errorf("%w: a message of kind %d", errMalformed, b[0])
}

// vetStream reads the one message of a stream and says whether memberlist may have it. Streams that were accepted begin with
// a label. An error of the reader is returned as it is.
func vetStream(r io.Reader) error {
	kind, err := firstByte(r)
	if err != nil {
		return err
	}
	if kind == msgLabel {
		size, err := firstByte(r)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, r, int64(size)); err != nil {
			return err
		}
		if kind, err = firstByte(r); err != nil {
			return err
		}
	}
	switch kind {
	case msgPing, msgAck, msgError:
		return nil
	case msgPushPull:
		return vetState(codec.NewDecoder(r, &codec.MsgpackHandle{}))
	}
	return fmt.Errorf("%w: a stream of kind %d", errMalformed, kind)
}

func vetState(d *codec.Decoder) error {
	var head stateHead
	if err := d.Decode(&head); err != nil {
		return fmt.Errorf("%w: %w", errMalformed, err)
	}
	if head.Nodes < 0 || head.Nodes > maxNodes || head.UserStateLen != 0 {
		return fmt.Errorf("%w: the state of %d nodes, at most %d, with %d bytes more", errMalformed,
			head.Nodes, maxNodes, head.UserStateLen)
	}
	for range head.Nodes {
		var n nodeState
		if err := d.Decode(&n); err != nil {
			return fmt.Errorf("%w: %w", errMalformed, err)
		}
		if err := vetVersions(n.Vsn); err != nil {
			return err
		}
	}
	return nil
}

func firstByte(r io.Reader) (byte, error) {
	var b [1]byte
	_, err := io.ReadFull(r, b[:])
	return b[0], err
}
