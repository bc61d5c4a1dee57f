package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/quorate/quorate/api/client"
)

// archive is where a long run keeps what it is judged by.
type archive struct {
	l    *Lab
	dir  string
	kept []Kept // evidence of all rounds
}

// makeOut makes the directory for what is kept; "": a new one whose name begins like that.
func makeOut(dir, prefix string) (string, error) {
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", prefix)
	} else {
		err = os.MkdirAll(dir, 0o755)
	}
	if err != nil {
		return "", fmt.Errorf("make a directory for the events: %w", err)
	}
	return dir, nil
}

// note appends a value to a file, as a line of JSON.
func (a *archive) note(name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode a line of %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(a.dir, name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("keep a line of %s: %w", name, err)
	}
	_, err = f.Write(append(b, '\n'))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("keep a line of %s: %w", name, err)
	}
	return nil
}

// gather remembers the evidence that the cluster knows of and dismisses it there, which makes room: what nobody has looked at
// is recorded up to a limit.
func (a *archive) gather(ctx context.Context, state State) error {
	for _, k := range state.Kept {
		if slices.ContainsFunc(a.kept, func(known Kept) bool { return known.ID == k.ID }) {
			continue
		}
		if err := client.Unix(a.l.Node(state.Primary).Socket()).DismissDiscard(ctx, k.ID); err != nil {
			return fmt.Errorf("dismiss the discard %s: %w", k.ID, err)
		}
		a.kept = append(a.kept, k)
	}
	return nil
}

// keepLogs copies the logs of daemons and servers to where the history is.
func (a *archive) keepLogs() error {
	var errs []error
	for _, n := range a.l.Nodes {
		for from, to := range map[string]string{n.Log(): n.Name + ".log", n.postgresLog(): n.Name + "-postgres.log"} {
			b, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(a.dir, to), b, 0o644)
			}
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("keep a log of %s: %w", n.Name, err))
			}
		}
	}
	return errors.Join(errs...)
}
