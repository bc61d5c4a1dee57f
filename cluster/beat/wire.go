package beat

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// wireVersion is that of both messages. A change that an older release would misread needs another.
const wireVersion = 1

// maxMessage bounds what is read at the word of a length prefix (bytes). A beat has a few hundred.
const maxMessage = 64 << 10

// errWire says that the other side sent what is no message of this protocol.
var errWire = errors.New("malformed message")

// beatMessage is one beat. Messages travel as a big-endian uint32 length and that many bytes of JSON.
type beatMessage struct {
	Version     int             `json:"v"`
	Cluster     string          `json:"cluster"`
	Node        fsm.NodeID      `json:"node"`
	Incarnation uint64          `json:"inc"`
	Seq         uint64          `json:"seq"`
	Electorate  uint64          `json:"ev"` // version of the electorate it is counted under
	Vouch       bool            `json:"vouch,omitempty"`
	Epoch       fsm.Epoch       `json:"epoch,omitempty"` // with Vouch: the epoch to vouch for
	L           time.Duration   `json:"l,omitempty"`     // with Vouch: the length of the lease, in nanoseconds
	Report      failover.Report `json:"report"`
}

// replyMessage answers the beat (Incarnation, Seq). Epoch, Primary and Rev are of the voter's applied and durable state;
// a higher Epoch with another Primary stops the holder long before its own log tells it. Primary is there so that a
// re-appointment of the holder itself, seen by a voter first, does not.
type replyMessage struct {
	Version     int        `json:"v"`
	Voter       fsm.NodeID `json:"voter"`
	Incarnation uint64     `json:"inc"`
	Seq         uint64     `json:"seq"`
	Yes         bool       `json:"yes,omitempty"`
	For         fsm.Epoch  `json:"for,omitempty"` // with Yes: the epoch vouched for
	Sealed      fsm.Epoch  `json:"sealed"`
	Epoch       fsm.Epoch  `json:"epoch"`
	Primary     fsm.NodeID `json:"primary,omitempty"`
	Rev         uint64     `json:"rev"`
}

// encodeMessage renders v with its length, so that one Write sends it.
func encodeMessage(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if len(body) > maxMessage {
		return nil, fmt.Errorf("encode message: %d bytes, at most %d", len(body), maxMessage)
	}
	out := make([]byte, 4, 4+len(body))
	binary.BigEndian.PutUint32(out, uint32(len(body)))
	return append(out, body...), nil
}

// readMessage reads one message into v. It returns errWire for one that is too long or is no JSON, and otherwise the
// reader's own error.
func readMessage(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return fmt.Errorf("%w: %d bytes, at most %d", errWire, n, maxMessage)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", errWire, err)
	}
	return nil
}
