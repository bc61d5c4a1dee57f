package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/quorate/quorate/lab/nemesis"
)

const (
	reloadedAfter = 50 * time.Millisecond // a SIGHUP, all processes of a server know its settings
	restoreLimit  = 2 * time.Second       // until recovery waits for a restore_command
)

// restoreSlowly does what quorate refuses to be told and somebody with a shell can do all the same: it gives Postgres a
// restore_command, which takes that long and finds nothing, and ends the stream, so that recovery turns to the command. It returns
// when recovery waits for it. Nothing undoes that: quorate puts the setting back, and recovery learns of it when the command has
// ended; see putBack.
func (l *Lab) restoreSlowly(ctx context.Context, n *Node, long time.Duration) error {
	ctx, stop := context.WithTimeout(ctx, restoreLimit)
	defer stop()
	pid, err := l.Postmaster(n)
	if err != nil {
		return err
	}
	if err := appendLine(filepath.Join(n.PGData(), "postgresql.auto.conf"), restoreLine(long)); err != nil {
		return fmt.Errorf("give %s a restore_command: %w", n.Name, err)
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload Postgres on %s: %w", n.Name, err)
	}
	if err := pause(ctx, reloadedAfter); err != nil {
		return err
	}
	receivers, err := l.children(n, "walreceiver")
	if err != nil {
		return err
	}
	for _, r := range receivers {
		_ = syscall.Kill(r.PID, syscall.SIGTERM) // it may have ended since
	}
	return until(ctx, "recovery on "+n.Name+" waits for its restore_command", func() (bool, error) {
		startup, err := l.children(n, "startup")
		for _, s := range startup {
			list, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", s.PID, s.PID))
			if err == nil && len(bytes.TrimSpace(list)) > 0 {
				return true, nil
			}
		}
		return false, err
	})
}

// restoreLine is a line of configuration. The command ends with 1, which says that there is no such file.
func restoreLine(long time.Duration) string {
	return fmt.Sprintf("restore_command = 'sleep %.3f && false'", long.Seconds())
}

// appendLine adds a line to a file that is there, whether its last one has an end or not.
func appendLine(file, line string) error {
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + line + "\n")
	return errors.Join(err, f.Close())
}

// putBack waits until no Postgres has the restore_command that the round gave it.
func (t *turn) putBack(ctx context.Context) error {
	if !slices.ContainsFunc(t.r.Steps, func(s nemesis.Step) bool { return s.Do == nemesis.SlowRestore }) {
		return nil
	}
	for _, n := range t.c.l.members() {
		if n.Witness {
			continue
		}
		err := until(ctx, n.Name+" has no restore_command", func() (bool, error) {
			conn, err := t.c.l.connect(ctx, n)
			if err != nil {
				return false, err
			}
			defer func() { _ = conn.Close(ctx) }()
			left := ""
			err = conn.QueryRow(ctx, "SELECT current_setting('restore_command')").Scan(&left)
			return err == nil && left == "", err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
