package transport

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"time"
)

// MaxRPC is the largest request or response of a call, in bytes, its few bytes of
// framing included.
const MaxRPC = 4 << 20

// ErrTooLarge: a request or response is longer than MaxRPC, or than a stranger's may be.
var ErrTooLarge = errors.New("message of a call is too large")

// errBadFrame: the bytes are no call or answer.
var errBadFrame = errors.New("malformed call")

// writeFrame sends a 32-bit length and the body in one write, so that an error
// means that the peer cannot have the whole frame.
func writeFrame(w io.Writer, body []byte) error {
	if len(body) > MaxRPC {
		return fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(body), MaxRPC)
	}
	frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}

// readFrame takes memory only as bytes arrive, not as the length promises. A frame of more than limit bytes is ErrTooLarge.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if int64(n) > int64(limit) {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, n, limit)
	}
	var body bytes.Buffer
	if _, err := io.CopyN(&body, r, int64(n)); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return body.Bytes(), nil
}

// request is one call. Timeout is what the caller has left, 0 for no limit, so
// that a handler does not work for somebody who has gone.
type request struct {
	name    string
	timeout time.Duration
	body    []byte
}

func (q request) encode() ([]byte, error) {
	if len(q.name) == 0 || len(q.name) > 255 {
		return nil, fmt.Errorf("call name %q: it must have 1 to 255 bytes", q.name)
	}
	millis := uint32(min((q.timeout+time.Millisecond-1)/time.Millisecond, math.MaxUint32))
	b := append([]byte{byte(len(q.name))}, q.name...)
	b = binary.BigEndian.AppendUint32(b, millis)
	return append(b, q.body...), nil
}

func decodeRequest(b []byte) (request, error) {
	if len(b) < 1 || b[0] == 0 || len(b) < 1+int(b[0])+4 {
		return request{}, fmt.Errorf("request of %d bytes: %w", len(b), errBadFrame)
	}
	n := int(b[0])
	millis := binary.BigEndian.Uint32(b[1+n:])
	return request{name: string(b[1 : 1+n]), timeout: time.Duration(millis) * time.Millisecond, body: b[1+n+4:]}, nil
}

// An answer is a result or a RemoteError.
const (
	answerResult = 0
	answerError  = 1
)

func encodeResult(body []byte) []byte { return append([]byte{answerResult}, body...) }

func encodeError(e *RemoteError) []byte {
	code, message := e.Code, e.Message
	if len(code) > 255 {
		code = code[:255]
	}
	b := append([]byte{answerError, byte(len(code))}, code...)
	return append(b, message[:min(len(message), MaxRPC-len(b))]...)
}

// decodeAnswer gives the result, or a *RemoteError, or another error if the bytes
// are no answer.
func decodeAnswer(b []byte) ([]byte, error) {
	switch {
	case len(b) >= 1 && b[0] == answerResult:
		return b[1:], nil
	case len(b) >= 2 && b[0] == answerError && len(b) >= 2+int(b[1]):
		n := int(b[1])
		return nil, &RemoteError{Code: string(b[2 : 2+n]), Message: printable(b[2+n:])}
	}
	return nil, fmt.Errorf("answer of %d bytes: %w", len(b), errBadFrame)
}
