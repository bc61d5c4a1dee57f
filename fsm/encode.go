package fsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// format is the version of both encodings. A change that an older binary would misread needs a new number; golden files
// of every released one stay readable for ever.
const format = 1

// commandFrame is a command in the log. Optional is reserved for kinds that a node may skip when it does not know them. There is none.
// One that changed Version would have who skips it look like a node that does not get the log (failover.Applied).
type commandFrame struct {
	Format   int             `json:"format"`
	Kind     string          `json:"kind"`
	Optional bool            `json:"optional,omitempty"`
	ID       string          `json:"id"`
	IfRev    uint64          `json:"if_rev"`
	By       string          `json:"by"`
	Wall     int64           `json:"wall"`
	Change   json.RawMessage `json:"change"`
}

type stateFrame struct {
	Format int   `json:"format"`
	State  State `json:"state"`
}

// EncodeCommand renders e for the log. Equal envelopes give equal bytes. A Change that is not one of the commands by
// value is ErrUnknownCommand.
func EncodeCommand(e Envelope) ([]byte, error) {
	if !known(e.Change) {
		return nil, &UnknownCommandError{Kind: fmt.Sprintf("%T", e.Change)}
	}
	change, err := json.Marshal(e.Change)
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", e.Change.Kind(), err)
	}
	frame := commandFrame{Format: format, Kind: e.Change.Kind(), ID: e.ID, IfRev: e.IfRev, By: e.By, Wall: e.Wall, Change: change}
	encoded, err := json.Marshal(frame)
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", e.Change.Kind(), err)
	}
	return encoded, nil
}

// DecodeCommand reads what EncodeCommand wrote. An unknown kind is an *UnknownCommandError, which says whether it may be
// skipped; anything else unreadable, a field that this version does not know included, is ErrFormat: a node that skips
// part of a command computes another state than the one that does not.
func DecodeCommand(encoded []byte) (Envelope, error) {
	var frame commandFrame
	if err := strict(encoded, &frame); err != nil {
		return Envelope{}, fmt.Errorf("decode command: %w", err)
	}
	if frame.Format != format {
		return Envelope{}, fmt.Errorf("decode command: %w: version %d, this node reads %d", ErrFormat, frame.Format, format)
	}
	change, err := decodeChange(frame)
	if err != nil {
		return Envelope{}, fmt.Errorf("decode command: %w", err)
	}
	return Envelope{ID: frame.ID, IfRev: frame.IfRev, By: frame.By, Wall: frame.Wall, Change: change}, nil
}

func decodeChange(frame commandFrame) (Command, error) {
	switch frame.Kind {
	case Init{}.Kind():
		return decodeAs[Init](frame.Change)
	case Appoint{}.Kind():
		return decodeAs[Appoint](frame.Change)
	case Promoted{}.Kind():
		return decodeAs[Promoted](frame.Change)
	case SetSync{}.Kind():
		return decodeAs[SetSync](frame.Change)
	case SetElectorate{}.Kind():
		return decodeAs[SetElectorate](frame.Change)
	case SetMember{}.Kind():
		return decodeAs[SetMember](frame.Change)
	case RemoveMember{}.Kind():
		return decodeAs[RemoveMember](frame.Change)
	case AskSwitchover{}.Kind():
		return decodeAs[AskSwitchover](frame.Change)
	case AskFailover{}.Kind():
		return decodeAs[AskFailover](frame.Change)
	case BeginSwitchover{}.Kind():
		return decodeAs[BeginSwitchover](frame.Change)
	case EndWish{}.Kind():
		return decodeAs[EndWish](frame.Change)
	case EditConfig{}.Kind():
		return decodeAs[EditConfig](frame.Change)
	case RecordDiscard{}.Kind():
		return decodeAs[RecordDiscard](frame.Change)
	case DismissDiscard{}.Kind():
		return decodeAs[DismissDiscard](frame.Change)
	case RecordFailover{}.Kind():
		return decodeAs[RecordFailover](frame.Change)
	case Pause{}.Kind():
		return decodeAs[Pause](frame.Change)
	case Resume{}.Kind():
		return decodeAs[Resume](frame.Change)
	case ResumeShown{}.Kind():
		return decodeAs[ResumeShown](frame.Change)
	}
	return nil, &UnknownCommandError{Kind: frame.Kind, Optional: frame.Optional}
}

func decodeAs[C Command](payload []byte) (Command, error) {
	var change C
	if err := strict(payload, &change); err != nil {
		return nil, fmt.Errorf("read %s: %w", change.Kind(), err)
	}
	return change, nil
}

// EncodeState renders s for a snapshot or a durable copy. Equal states give equal bytes.
func EncodeState(s State) ([]byte, error) {
	encoded, err := json.Marshal(stateFrame{Format: format, State: s.clone()})
	if err != nil {
		return nil, fmt.Errorf("encode state: %w", err)
	}
	return encoded, nil
}

// release is the version of what this program knows of states and commands. A release that writes into a state what an older one
// must not do without sets State.MinVersion to its own.
const release = 1

// tooNew says that a state is for a newer program. It is looked at before the rest, which an older one can't read, and would only
// say so of some field.
func tooNew(encoded []byte) error {
	var head struct {
		State struct {
			MinVersion int `json:"min_version"`
		} `json:"state"`
	}
	if err := json.Unmarshal(encoded, &head); err != nil {
		return nil // what it is instead is found out by who reads all of it
	}
	if v := head.State.MinVersion; v > release {
		return fmt.Errorf("%w: this state needs a program of version %d, this one is of version %d; install a newer release on this node", ErrFormat, v, release)
	}
	return nil
}

// DecodeState reads what EncodeState wrote; anything else is ErrFormat.
func DecodeState(encoded []byte) (State, error) {
	if err := tooNew(encoded); err != nil {
		return State{}, fmt.Errorf("decode state: %w", err)
	}
	var frame stateFrame
	if err := strict(encoded, &frame); err != nil {
		return State{}, fmt.Errorf("decode state: %w", err)
	}
	if frame.Format != format {
		return State{}, fmt.Errorf("decode state: %w: version %d, this node reads %d", ErrFormat, frame.Format, format)
	}
	return frame.State.clone(), nil
}

// strict decodes exactly one JSON value without unknown fields.
func strict(encoded []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(encoded))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: something follows the end", ErrFormat)
	}
	return nil
}
