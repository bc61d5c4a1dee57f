package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/quorate/quorate/e2e/alone"
	"github.com/quorate/quorate/lab"
	"github.com/quorate/quorate/lab/judge"
)

// product is the program, and consent what lets one run that lacks something.
const (
	product = "github.com/quorate/quorate/cmd/quorate"
	consent = "QUORATE_NEGATIVE_CONTROL=1"
)

// endLimit is how long a run may take to clear up when it is interrupted.
const endLimit = 2 * time.Minute

// chaos has the traps of quorate lab chaos catch what lacks a mechanism, and nothing in the clean build for as long with the same
// seed. Those of which the simulator is the named catcher may be missed here: it is said and is no failure. Of the others a run that ended by
// another check than the control's own is an error: another run may come to a verdict.
func chaos(ctx context.Context, o options, chosen []control, out io.Writer) error {
	if err := lab.Able(); err != nil {
		return err
	}
	lock, err := alone.Take(o.talk)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // the process ends
	var t table
	var errs []error
	longest := time.Duration(0)
	for _, c := range chosen {
		if c.trap == "" {
			continue
		}
		found, took, err := o.spring(ctx, c.tag, o.minutes)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			errs = append(errs, err) // the others may come to one
			continue
		}
		l, err := c.judged(found)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.seed, l.after = o.seed, fmt.Sprintf("%.1f minutes", took.Minutes())
		longest = max(longest, took)
		o.say("without %q, after %s: %s", c.tag, l.after, cmp.Or(checks(found), "nothing"))
		t = append(t, l)
	}
	if len(t) == 0 {
		return errors.Join(append(errs, errors.New("no trap came to a verdict"))...)
	}
	found, _, err := o.spring(ctx, "", longest.Minutes())
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	for i := range t {
		t[i].clean = checks(found)
	}
	return errors.Join(append(errs, t.print(out))...)
}

// judged says whether the check that the control names has found something. Another one alone is no catch, and no verdict either:
// the run ended by it, before the trap could be seen. A busy machine can do that. Where another catcher is named it is only told: a
// node whose log is not what it says stands in the way of its cluster before a commit is missed.
func (c control) judged(found []judge.Violation) (line, error) {
	l := line{control: c, may: c.catcher != traps}
	if slices.ContainsFunc(found, func(v judge.Violation) bool { return v.Check == c.sees }) {
		l.found = string(c.sees)
		return l, nil
	}
	if l.passed = checks(found); l.passed != "" && !l.may {
		return l, fmt.Errorf("chaos without %q came to no verdict: it ended by %s, which is no catch; it is to be found by %s",
			c.tag, l.passed, c.sees)
	}
	return l, nil
}

// checks names what found something, once each.
func checks(found []judge.Violation) (names string) {
	seen := map[judge.Check]bool{}
	for _, v := range found {
		if !seen[v.Check] {
			names += ", " + string(v.Check)
		}
		seen[v.Check] = true
	}
	if names == "" {
		return ""
	}
	return names[2:]
}

// spring runs chaos with the product without a mechanism and returns what was found, and after how long. A run that ended for
// another reason is an error.
func (o options) spring(ctx context.Context, tag string, minutes float64) ([]judge.Violation, time.Duration, error) {
	program, err := o.build(ctx, product, tag)
	if err != nil {
		return nil, 0, err
	}
	dir, err := os.MkdirTemp(o.dir, filepath.Base(program)+"-history-")
	if err != nil {
		return nil, 0, fmt.Errorf("make a directory for the history: %w", err)
	}
	var said bytes.Buffer
	cmd := exec.CommandContext(ctx, program, "lab", "chaos", "--traps", "--minutes", strconv.FormatFloat(minutes, 'f', 2, 64),
		"--seed", strconv.FormatUint(o.seed, 10), "--out", dir)
	cmd.Env = append(os.Environ(), consent)
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&said, o.talk), o.talk
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = endLimit
	o.say("without %q: %s", tag, cmd)
	began := time.Now()
	errRun := cmd.Run()
	took := time.Since(began)
	if ctx.Err() != nil {
		return nil, took, context.Cause(ctx)
	}
	found, err := violationsIn(dir)
	if err != nil || errRun != nil && len(found) == 0 {
		return nil, took, fmt.Errorf("chaos without %q came to no verdict: %w", tag, errors.Join(errRun, err))
	}
	return found, took, o.clearUp(ctx, program, said.String())
}

// violationsIn reads what a run found, which is kept even where it is nothing.
func violationsIn(dir string) ([]judge.Violation, error) {
	b, err := os.ReadFile(filepath.Join(dir, "summary.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("it kept no summary")
	}
	if err != nil {
		return nil, fmt.Errorf("read what was found: %w", err)
	}
	var sum struct {
		Found []judge.Violation `json:"found"`
	}
	if err := json.Unmarshal(b, &sum); err != nil {
		return nil, fmt.Errorf("read what was found: %w", err)
	}
	return sum.Found, nil
}

// stays is how a run names the lab that it leaves to people when it has found something.
var stays = regexp.MustCompile(`quorate lab down --id ([a-z0-9]+)`)

// clearUp removes the lab that a run has left: what it shows is the doing of what was left out. The history stays.
func (o options) clearUp(ctx context.Context, program, said string) error {
	m := stays.FindStringSubmatch(said)
	if m == nil {
		return nil
	}
	cmd := exec.CommandContext(ctx, program, "lab", "down", "--id", m[1])
	cmd.Stdout, cmd.Stderr = o.talk, o.talk
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("remove lab %s: %w", m[1], err)
	}
	return nil
}
