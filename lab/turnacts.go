package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/lab/load"
	"github.com/quorate/quorate/lab/nemesis"
	"github.com/quorate/quorate/lab/netns"
)

// operatorLimit is how long an operator waits for an answer.
const operatorLimit = 5 * time.Second

// part finds a process of a node; errNobody if it has none now.
func (l *Lab) part(n *Node, p nemesis.Part) (o Owner, err error) {
	var all []Owner
	switch p {
	case nemesis.Agent:
		o, err = l.agent(n)
		all = []Owner{o}
	case nemesis.Guard:
		o, err = n.guard()
		all = []Owner{o}
	case nemesis.Postmaster:
		var pid int
		if pid, err = l.Postmaster(n); err == nil {
			o, err = owner(pid)
		}
		all = []Owner{o}
	case nemesis.Backend:
		all, err = l.children(n, " "+loadRole+" ")
	case nemesis.Receiver:
		all, err = l.children(n, "walreceiver")
	}
	if err != nil {
		return o, err
	}
	if len(all) == 0 {
		return o, fmt.Errorf("%w: no %s on %s", errNobody, p, n.Name)
	}
	if o = all[rand.IntN(len(all))]; !o.alive() {
		return o, fmt.Errorf("%w: the %s of %s has ended", errNobody, p, n.Name)
	}
	return o, nil
}

// find finds those of the parts that there are, and says why the others are missed.
func (l *Lab) find(n *Node, parts []nemesis.Part) (found map[nemesis.Part]Owner, misses []error) {
	found = map[nemesis.Part]Owner{}
	for _, p := range parts {
		o, err := l.part(n, p)
		if err != nil {
			misses = append(misses, err)
			continue
		}
		found[p] = o
	}
	return found, misses
}

// errInPart says that of a set of processes some were hit and some were not.
var errInPart = errors.New("in part")

// reach says how much of a set was hit: nil if all of it, else errInPart or errNobody.
func reach(hit int, misses []error) error {
	how := errInPart
	switch {
	case len(misses) == 0:
		return nil
	case hit == 0:
		how = errNobody
	}
	var words []string
	for _, m := range misses {
		words = append(words, strings.TrimPrefix(firstLine(m), errNobody.Error()+": "))
	}
	return fmt.Errorf("%w: %s", how, strings.Join(words, ", "))
}

// kill kills those of the parts that there are.
func (t *turn) kill(fault int, n *Node, parts []nemesis.Part, away bool) error {
	found, misses := t.c.l.find(n, parts)
	if len(found) == 0 {
		return reach(0, misses)
	}
	long, hit := backAfter, 0
	if away {
		t.c.l.leave(n)
		long, fault = 0, healed
	}
	for _, p := range parts {
		o, ok := found[p]
		if !ok {
			continue
		}
		switch {
		case p == nemesis.Agent:
			t.down(n, p, fault, long)
		case p == nemesis.Guard && t.c.l.isStopped(n, nemesis.Postmaster):
			// A guard that is killed takes Postgres along, but not a postmaster that can't hear of it.
			t.down(n, p, healed, 0)
		}
		switch _, err := t.c.l.signal(n, syscall.SIGKILL, o); {
		case err == nil:
			hit++
		case !errors.Is(err, syscall.ESRCH):
			return err
		case hit == 0: // else it may have ended with one that was killed before
			misses = append(misses, err)
		}
	}
	return reach(hit, misses)
}

// isStopped says whether a part of the node was stopped in this round.
func (l *Lab) isStopped(n *Node, p nemesis.Part) bool {
	o, err := l.part(n, p)
	if err != nil {
		return false
	}
	stopped, err := l.stopped(n)
	return err == nil && slices.Contains(stopped, o)
}

// stop stops those of the parts that there are, until resume or healing.
func (t *turn) stop(s nemesis.Step, n *Node) error {
	found, misses := t.c.l.find(n, s.Parts)
	hit := 0
	for _, p := range s.Parts {
		o, ok := found[p]
		if !ok {
			continue
		}
		t.stopped[s.Fault] = append(t.stopped[s.Fault], o)
		t.down(n, p, s.Fault, 0)
		switch _, err := t.c.l.signal(n, syscall.SIGSTOP, o); {
		case err == nil:
			hit++
		case !errors.Is(err, syscall.ESRCH):
			return err
		default:
			misses = append(misses, err)
		}
	}
	return reach(hit, misses)
}

// resume resumes whom the fault has stopped, if it still lives.
func (t *turn) resume(fault int) {
	for _, o := range t.stopped[fault] {
		if o.alive() {
			_ = syscall.Kill(o.PID, syscall.SIGCONT) // it may have ended since
		}
	}
	delete(t.stopped, fault)
	t.over(fault)
}

// deny has a node drop these, and nothing else.
func (l *Lab) deny(ctx context.Context, n *Node, drops []nemesis.Drop) error {
	var all []netns.Deny
	for _, d := range drops {
		port, err := l.denied(d.Port)
		if err != nil {
			return err
		}
		deny := netns.Deny{Port: port, Loss: d.Loss}
		for _, name := range d.From {
			deny.From = append(deny.From, l.Node(name).Addr)
		}
		all = append(all, deny)
	}
	return netns.Filter(ctx, l.namespace(n), all)
}

// ambush waits, until the round is healed, for the first node that logs a word, and kills there. Where nobody does, nothing was made.
func (t *turn) ambush(ctx context.Context, s nemesis.Step) {
	ends := map[*Node]int64{}
	for _, n := range t.c.l.Nodes {
		_ = newLines(n.Log(), ends, n) // where it begins
	}
	t.beside.Go(func() {
		n := t.logs(ctx, s.Word, ends)
		if n == nil {
			t.done(s, nil, load.Now(), fmt.Errorf("nobody logged %q until the round was healed", s.Word))
			return
		}
		if err := pause(ctx, s.After); err != nil {
			t.done(s, n, load.Now(), fmt.Errorf("%q was logged when the round was healed", s.Word))
			return
		}
		at := load.Now()
		t.done(s, n, at, t.kill(s.Fault, n, s.Parts, false))
	})
}

// logs waits for the first node that logs a word beyond those ends; nil: none did before the context ended.
func (t *turn) logs(ctx context.Context, word string, ends map[*Node]int64) *Node {
	for pause(ctx, pollEvery) == nil {
		for _, n := range t.c.l.Nodes {
			if strings.Contains(newLines(n.Log(), ends, n), word) {
				return n
			}
		}
	}
	return nil
}

// newLines are the whole lines of a log since it was last asked; none of a log that can't be read.
func newLines(file string, ends map[*Node]int64, n *Node) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	b, err := io.ReadAll(io.NewSectionReader(f, ends[n], 1<<30))
	if err != nil {
		return ""
	}
	b = b[:bytes.LastIndexByte(b, '\n')+1]
	ends[n] += int64(len(b))
	return string(b)
}

// operate does what a person does, on the first node that answers. A refusal is an answer, and ends it.
func (t *turn) operate(ctx context.Context, s nemesis.Step, n *Node) error {
	acts := map[nemesis.Do]func(context.Context, *client.Client) error{
		nemesis.Switchover: func(ctx context.Context, c *client.Client) error {
			_, err := c.AskSwitchover(ctx, n.Name)
			return err
		},
		nemesis.Pause: func(ctx context.Context, c *client.Client) error {
			_, err := c.Pause(ctx, 0)
			return err
		},
		nemesis.Unpause: unpause,
		nemesis.Remove: func(ctx context.Context, c *client.Client) error {
			return c.RemoveMember(ctx, client.RemoveRequest{Name: n.Name})
		},
		nemesis.Reinit: func(ctx context.Context, c *client.Client) error {
			_, err := c.Reinit(ctx, n.Name, false)
			return err
		},
		nemesis.Configure: func(ctx context.Context, c *client.Client) error { return setWorkMem(ctx, c, s.N) },
	}
	act, ok := acts[s.Do]
	if !ok {
		return fmt.Errorf("nobody knows how to %s", s.Do)
	}
	return t.c.l.ask(ctx, act)
}

func unpause(ctx context.Context, c *client.Client) error {
	_, err := c.Resume(ctx, 0, false)
	return err
}

// ask asks one node after the other until one answers.
func (l *Lab) ask(ctx context.Context, act func(context.Context, *client.Client) error) error {
	var errs []error
	for _, i := range rand.Perm(len(l.Nodes)) {
		limit, stop := context.WithTimeout(ctx, operatorLimit)
		err := act(limit, client.Unix(l.Nodes[i].Socket()))
		stop()
		var refused client.Problem
		if err == nil || errors.As(err, &refused) {
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// setWorkMem changes a setting that needs no restart.
func setWorkMem(ctx context.Context, c *client.Client, megabytes int) error {
	now, err := c.Config(ctx, 0)
	if err != nil {
		return err
	}
	doc, err := withWorkMem(now.Doc, megabytes)
	if err != nil {
		return err
	}
	_, err = c.PutConfig(ctx, now.Version, doc)
	return err
}

func withWorkMem(doc []byte, megabytes int) ([]byte, error) {
	var all map[string]any
	if err := json.Unmarshal(doc, &all); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	at := all
	for _, key := range []string{"postgresql", "parameters"} {
		next, ok := at[key].(map[string]any)
		if !ok {
			next = map[string]any{}
			at[key] = next
		}
		at = next
	}
	at["work_mem"] = fmt.Sprintf("%dMB", megabytes)
	out, err := json.Marshal(all)
	if err != nil {
		return nil, fmt.Errorf("write the configuration: %w", err)
	}
	return out, nil
}

// gone says whether the member is none any more, and whether it is one that leaves, as the first node that answers has it.
func (l *Lab) gone(ctx context.Context, n *Node) (gone, leaving bool, err error) {
	err = l.ask(ctx, func(ctx context.Context, c *client.Client) error {
		list, err := c.Members(ctx)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fs.ErrNotExist
		}
		gone = true
		for _, m := range list {
			if m.Name == n.Name {
				gone, leaving = false, m.Leaving
			}
		}
		return nil
	})
	return gone, leaving, err
}
