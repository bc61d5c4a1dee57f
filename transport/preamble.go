package transport

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// magic begins every connection without a secret, in both directions.
	magic = "quorate\x01"
	// maxHello and maxReason bound what is read before the peer is known, in bytes.
	maxHello  = 512
	maxReason = 512
)

// errNotQuorate: the bytes are not a preamble.
var errNotQuorate = errors.New("the peer does not speak quorate's protocol")

// hello says, without TLS, what ALPN and certificate say with it.
type hello struct {
	proto Proto
	id    identity
}

// writeHello sends magic and the hello.
func writeHello(w io.Writer, h hello) error {
	fields := []string{string(h.proto), h.id.scope, h.id.clusterID, h.id.nodeID}
	body := []byte{}
	for _, f := range fields {
		if len(f) > 255 {
			return fmt.Errorf("field of %d bytes in preamble, at most 255", len(f))
		}
		body = append(append(body, byte(len(f))), f...)
	}
	frame := binary.BigEndian.AppendUint16([]byte(magic), uint16(len(body)))
	_, err := w.Write(append(frame, body...))
	return err
}

func readHello(r io.Reader) (hello, error) {
	if err := readMagic(r); err != nil {
		return hello{}, err
	}
	body, err := readShort(r, maxHello)
	if err != nil {
		return hello{}, err
	}
	var fields [4]string
	for i := range fields {
		if len(body) == 0 || 1+int(body[0]) > len(body) {
			return hello{}, fmt.Errorf("preamble ends in field %d: %w", i+1, errNotQuorate)
		}
		n := int(body[0])
		fields[i], body = string(body[1:1+n]), body[1+n:]
	}
	if len(body) != 0 {
		return hello{}, fmt.Errorf("preamble has %d bytes too many: %w", len(body), errNotQuorate)
	}
	h := hello{proto: Proto(fields[0]), id: identity{scope: fields[1], clusterID: fields[2], nodeID: fields[3]}}
	return h, h.id.validate()
}

func readMagic(r io.Reader) error {
	var got [len(magic)]byte
	// The first byte alone tells TLS, whose alert is shorter than the magic.
	if _, err := io.ReadFull(r, got[:1]); err != nil {
		return err
	}
	if got[0] == 0x15 || got[0] == 0x16 {
		return errSpeaksTLS
	}
	if got[0] != magic[0] {
		return errNotQuorate
	}
	if _, err := io.ReadFull(r, got[1:]); err != nil {
		return err
	}
	if string(got[:]) != magic {
		return errNotQuorate
	}
	return nil
}

// errSpeaksTLS: this side has no secret, the other has.
var errSpeaksTLS = errors.New("the peer speaks TLS: it has a cluster.secret and this node has none")

// A verdict is the accepting side's first frame: welcome, or why not.
const (
	verdictWelcome = 0
	verdictRefused = 1
)

// writeVerdict sends welcome for an empty reason, else the reason.
func writeVerdict(w io.Writer, reason string) error {
	code := byte(verdictWelcome)
	if reason != "" {
		code = verdictRefused
	}
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "")
	}
	frame := binary.BigEndian.AppendUint16([]byte{code}, uint16(len(reason)))
	_, err := w.Write(append(frame, reason...))
	return err
}

// readVerdict gives the reason of a refusal, cleaned for a log line, or "".
func readVerdict(r io.Reader) (string, error) {
	var code [1]byte
	if _, err := io.ReadFull(r, code[:]); err != nil {
		return "", err
	}
	text, err := readShort(r, maxReason)
	if err != nil {
		return "", err
	}
	switch {
	case code[0] == verdictWelcome && len(text) == 0:
		return "", nil
	case code[0] == verdictRefused && len(text) > 0:
		return printable(text), nil
	}
	return "", errNotQuorate
}

// readShort reads a frame with a 16-bit length of at most limit.
func readShort(r io.Reader, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(head[:]))
	if n > limit {
		return nil, fmt.Errorf("frame of %d bytes, at most %d: %w", n, limit, errNotQuorate)
	}
	body := make([]byte, n)
	_, err := io.ReadFull(r, body)
	return body, err
}

// printable replaces what could forge log lines or drive a terminal.
func printable(text []byte) string {
	return strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, string(text))
}
