package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

const (
	switchoverWait = 30 * time.Second
	stopWait       = 60 * time.Second
	lookAgain      = 50 * time.Millisecond
)

type switchoverOptions struct {
	to      string
	noWait  bool
	timeout time.Duration
}

func (a *app) switchoverVerb() *cobra.Command {
	var o switchoverOptions
	cmd := &cobra.Command{
		Use: "switchover [--to NAME]", Short: "Make another node primary, without losing anything",
		Long: `Make another node primary, without losing anything, and wait until it accepts writes.

Exit code: 0 done, 5 refused or given up, 4 no quorum, 1 not done in time, or another primary than was asked for.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if o.timeout <= 0 {
				return fmt.Errorf("--timeout %s: it is longer than 0s; use --no-wait not to wait", o.timeout)
			}
			return cobra.NoArgs(cmd, args)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error { return a.switchover(cmd.Context(), c, o) })
		},
	}
	cmd.Flags().StringVar(&o.to, "to", "", "the `name` of the node (default: the best standby)")
	cmd.Flags().BoolVar(&o.noWait, "no-wait", false, "only ask for it")
	cmd.Flags().DurationVar(&o.timeout, "timeout", switchoverWait, "how long to wait")
	return cmd
}

// switched is the outcome with whether the new primary accepts writes.
type switched struct {
	client.Switchover
	Serving bool `json:"serving"`
}

func (a *app) switchover(ctx context.Context, c *client.Client, o switchoverOptions) error {
	asked, err := c.AskSwitchover(ctx, o.to)
	if err != nil {
		return err
	}
	s := switched{Switchover: asked}
	if !o.noWait {
		if s, err = a.follow(ctx, c, asked, o.timeout); err != nil {
			return err
		}
	}
	if err := a.show(s, func() string { return renderSwitchover(s) }); err != nil {
		return err
	}
	switch {
	case s.Stage == client.SwitchoverDropped:
		return codeError{code: exitRefused}
	case s.Stage != client.SwitchoverDone:
	case o.to != "" && s.Primary != o.to:
		return fmt.Errorf("%s was asked for, and %s is primary: a failover came in between", o.to, s.Primary)
	case s.Primary == s.From:
		return codeError{code: exitError}
	}
	return nil
}

// follow waits until the new primary accepts writes or the switchover is dropped, and tells of each stage on the way.
func (a *app) follow(ctx context.Context, c *client.Client, asked client.Switchover, timeout time.Duration) (switched, error) {
	limited, stop := context.WithTimeout(ctx, timeout)
	defer stop()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	s, told, failed := switched{Switchover: asked}, "", error(nil)
	for {
		if line := progress(s); line != told && a.output == "table" && line != "" {
			told = line
			if err := a.print(line); err != nil {
				return s, err
			}
		}
		if s.Stage == client.SwitchoverDropped || s.Stage == client.SwitchoverDone && s.Serving {
			return s, nil
		}
		select {
		case <-limited.Done():
			return s, a.notDone(ctx, c, s, timeout, failed)
		case <-tick.C:
		}
		s, failed = look(limited, c, s)
	}
}

// look asks once more. After an error what was known before still stands.
func look(ctx context.Context, c *client.Client, before switched) (switched, error) {
	now, err := c.Switchover(ctx, before.Switchover, 0)
	if err != nil {
		return before, err
	}
	s := switched{Switchover: now}
	if s.Stage != client.SwitchoverDone {
		return s, nil
	}
	status, err := c.Status(ctx)
	s.Serving = err == nil && status.Serving && status.Epoch >= s.Now && status.Primary == s.Primary
	return s, err
}

// notDone says what a switchover still waits for. It goes on without us, until the leader gives it up.
func (a *app) notDone(ctx context.Context, c *client.Client, s switched, timeout time.Duration, failed error) error {
	status, err := c.Status(ctx)
	switch {
	case err != nil && failed != nil:
		return fmt.Errorf("no outcome after %s, and the daemon can't be asked any more: %w", timeout, err)
	case err != nil:
		return fmt.Errorf("no outcome after %s, and what it waits for can't be asked: %w", timeout, err)
	case !status.Quorum:
		return codeError{exitNoQuorum, fmt.Errorf("no outcome after %s: there is no quorum", timeout)}
	}
	state := "the switchover is " + s.Stage
	if s.Stage == client.SwitchoverDone {
		state = s.Primary + " was appointed and does not accept writes yet"
	}
	return fmt.Errorf("not done after %s: %s; it waits for: %s (%s). Follow it with: quorate status",
		timeout, state, strings.Join(status.Because, "; "), status.Rule)
}

// progress is what is told of a stage on the way; empty for the last one.
func progress(s switched) string {
	switch {
	case s.Stage == client.SwitchoverAsked:
		return fmt.Sprintf("Switchover from %s to %s asked for.\n", s.From, target(s))
	case s.Stage == client.SwitchoverBegun:
		return fmt.Sprintf("%s hands over to %s.\n", s.From, target(s))
	case s.Stage == client.SwitchoverDone && !s.Serving:
		return fmt.Sprintf("%s is appointed, epoch %d.\n", s.Primary, s.Now)
	}
	return ""
}

func target(s switched) string {
	if s.To == "" {
		return "the best standby"
	}
	return s.To
}

func renderSwitchover(s switched) string {
	switch {
	case s.Stage == client.SwitchoverDropped:
		return fmt.Sprintf("%s is still primary: %s.\n", s.Primary, s.Because)
	case s.Stage != client.SwitchoverDone:
		return fmt.Sprintf("Switchover from %s to %s is %s. Follow it with: quorate status\n", s.From, target(s), s.Stage)
	case s.Primary == s.From:
		return fmt.Sprintf("%s is primary again, epoch %d: it was appointed again while the switchover was pending.\n", s.Primary, s.Now)
	}
	return fmt.Sprintf("%s is primary now and accepts writes, epoch %d. It was %s.\n", s.Primary, s.Now, s.From)
}

func (a *app) stopVerb() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "Stop the daemon of this node and its PostgreSQL, handing over first if it is primary",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error { return a.stop(cmd.Context(), c) })
		},
	}
}

type stopped struct {
	Stopped bool `json:"stopped"`
}

// stop asks and waits until nobody answers any more.
func (a *app) stop(ctx context.Context, c *client.Client) error {
	if err := c.Stop(ctx); err != nil {
		return err
	}
	if a.output == "table" {
		if err := a.print("Stopping: handing over if primary, then shutting PostgreSQL down.\n"); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stopWait)
	defer cancel()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if _, err := c.Health(ctx, "/health"); errors.Is(err, client.ErrUnreachable) {
			return a.show(stopped{Stopped: true}, func() string { return "Stopped.\n" })
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the daemon still answers after %s; its log says why", stopWait)
		case <-tick.C:
		}
	}
}
