package lab

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/quorate/quorate/lab/load"
)

// How many connections write, and how long the process may take to end.
const (
	writers   = 4
	stopLimit = 10 * time.Second
)

// clients is the running process that writes into the lab.
type clients struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	events string
	acks   atomic.Int64
	ended  chan error
	done   bool   // stop was called; it is called by one goroutine only
	unkeep func() // ends what keeps the daemons running meanwhile; can be called again
}

// loadOptions say what runs beside the writers, and how patient they are.
type loadOptions struct {
	probe, libpq bool
	registers    bool          // with readers; their histories go beside the events
	dial         time.Duration // load.Spec.DialLimit
}

// startLoad starts writing, and probing and a client like libpq too if told so, with the history going to the file events.
func (l *Lab) startLoad(events string, o loadOptions) (*clients, error) {
	spec := load.Spec{
		Writers: writers, Database: database, Events: events, DialLimit: o.dial,
		Load:   load.Account{User: loadRole, Password: l.Password, Table: loadTable},
		Prober: load.Account{User: proberRole, Password: l.Password, Table: proberTable},
	}
	if o.libpq {
		spec.Libpq = libpqTable
	}
	if o.registers {
		spec.Registers = &load.Registers{Table: registers, Accesses: accessesOf(events), Sights: sightsOf(events)}
	}
	for _, n := range l.data() {
		spec.Hosts = append(spec.Hosts, load.Host{Node: n.Name, Addr: n.Addr, Port: port(n.Postgres)})
		if o.probe {
			spec.Sockets = append(spec.Sockets, load.Host{Node: n.Name, Addr: n.PGSocket(), Port: port(n.Postgres)})
		}
	}
	line, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("tell the clients what to do: %w", err)
	}
	c := &clients{unkeep: func() {}, cmd: exec.Command(l.Exe, "lab", "load"), events: events, ended: make(chan error, 1)}
	c.cmd.Env, c.cmd.Stderr = environment(), os.Stderr
	// A session of its own, so that an interrupt at the terminal does not end the clients before the lab does.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, errIn := c.cmd.StdinPipe()
	stdout, errOut := c.cmd.StdoutPipe()
	if err := errors.Join(errIn, errOut); err != nil {
		return nil, fmt.Errorf("start the clients: %w", err)
	}
	if err := l.launch(c.cmd, l.client(), "client"); err != nil {
		return nil, fmt.Errorf("start the clients: %w", err)
	}
	c.stdin = stdin
	go c.follow(stdout)
	if _, err := stdin.Write(append(line, '\n')); err != nil {
		return nil, errors.Join(fmt.Errorf("tell the clients what to do: %w", err), c.stop())
	}
	return c, nil
}

// accessesOf and sightsOf are the files beside the one with the events.
func accessesOf(events string) string { return events + ".registers" }
func sightsOf(events string) string   { return events + ".sights" }

// follow reads the process's progress until it ends.
func (c *clients) follow(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		var p load.Progress
		if json.Unmarshal(lines.Bytes(), &p) == nil {
			c.acks.Store(p.Acks)
		}
	}
	c.ended <- c.cmd.Wait()
}

// stop ends the process and waits until the history is complete. Stopping again does nothing.
func (c *clients) stop() error {
	if c.done {
		return nil
	}
	c.done = true
	c.unkeep()
	_ = c.stdin.Close()
	select {
	case err := <-c.ended:
		if err != nil {
			return fmt.Errorf("the clients ended: %w", err)
		}
		return nil
	case <-time.After(stopLimit):
	}
	_ = c.cmd.Process.Kill()
	<-c.ended
	return fmt.Errorf("the clients did not end within %s", stopLimit)
}

// flowing waits until a second passed with at least so many acknowledgements.
func (c *clients) flowing(ctx context.Context, perSecond int64) error {
	for {
		before := c.acks.Load()
		if err := pause(ctx, time.Second); err != nil {
			return fmt.Errorf("wait for %d acknowledgements per second, there were %d: %w", perSecond, c.acks.Load()-before, err)
		}
		if c.acks.Load()-before >= perSecond {
			return nil
		}
	}
}

// pause waits; the context's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
