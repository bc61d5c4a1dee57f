package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"github.com/quorate/quorate/lab/history"
)

// journal appends values to a file, as JSON lines.
type journal struct {
	mu   sync.Mutex
	file *os.File
	buf  *bufio.Writer
	enc  *json.Encoder
	err  error
}

func newJournal(file string) (*journal, error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("make the history: %w", err)
	}
	j := &journal{file: f, buf: bufio.NewWriterSize(f, 1<<16)}
	j.enc = json.NewEncoder(j.buf)
	return j, nil
}

func (j *journal) add(v any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.enc.Encode(v); err != nil && j.err == nil {
		j.err = err
	}
}

func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := errors.Join(j.err, j.buf.Flush(), j.file.Close()); err != nil {
		return fmt.Errorf("write the history: %w", err)
	}
	return nil
}

// recorder keeps the history of writes, and counts.
type recorder struct {
	*journal
	acks atomic.Int64
}

func newRecorder(file string) (*recorder, error) {
	j, err := newJournal(file)
	return &recorder{journal: j}, err
}

func (r *recorder) add(w history.Write) {
	if w.Outcome == history.OK && w.OfLoad() {
		r.acks.Add(1)
	}
	r.journal.add(w)
}

// Read reads a history of writes.
func Read(file string) ([]history.Write, error) { return read[history.Write](file) }

// ReadAccesses reads a history of registers.
func ReadAccesses(file string) ([]history.Access, error) { return read[history.Access](file) }

// ReadSights reads what readers saw.
func ReadSights(file string) ([]history.Sight, error) { return read[history.Sight](file) }

func read[T any](file string) ([]T, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the history: %w", err)
	}
	defer func() { _ = f.Close() }()
	var all []T
	for dec := json.NewDecoder(bufio.NewReader(f)); ; {
		var one T
		err := dec.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the history %s: %w", file, err)
		}
		all = append(all, one)
	}
}
