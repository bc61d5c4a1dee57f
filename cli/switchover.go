package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
)

const (
	switchoverWait = 30 * time.Second
	stopWait       = 60 * time.Second
	lookAgain      = 50 * time.Millisecond
)

func (a *app) switchoverVerb() *cobra.Command {
	var to string
	var wait bool
	cmd := &cobra.Command{
		Use: "switchover [--to NAME] [--wait]", Short: "Make another node primary, without losing anything",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.ask(func(c *client.Client) error { return a.switchover(cmd.Context(), c, to, wait) })
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the `name` of the node (default: the best standby)")
	cmd.Flags().BoolVar(&wait, "wait", false, "wait for the outcome")
	return cmd
}

func (a *app) switchover(ctx context.Context, c *client.Client, to string, wait bool) error {
	s, err := c.AskSwitchover(ctx, to)
	if err != nil {
		return err
	}
	if wait {
		if s, err = c.Switchover(ctx, s, switchoverWait); err != nil {
			return err
		}
	}
	if err := a.show(s, func() string { return renderSwitchover(s) }); err != nil {
		return err
	}
	switch {
	case s.Stage == client.SwitchoverDropped:
		return codeError{code: exitRefused}
	case s.Stage == client.SwitchoverDone && to != "" && s.Primary != to:
		return fmt.Errorf("%s was asked for, and %s is primary: a failover came in between", to, s.Primary)
	case wait && s.Stage != client.SwitchoverDone:
		return fmt.Errorf("no outcome after %s; quorate explain says what it waits for", switchoverWait)
	}
	return nil
}

func renderSwitchover(s client.Switchover) string {
	target := s.To
	if target == "" {
		target = "the best standby"
	}
	switch s.Stage {
	case client.SwitchoverDone:
		if s.Primary == s.From {
			return fmt.Sprintf("%s is primary again, epoch %d: it was appointed again while the switchover was pending.\n", s.Primary, s.Now)
		}
		return fmt.Sprintf("%s is primary now, epoch %d. It was %s.\n", s.Primary, s.Now, s.From)
	case client.SwitchoverDropped:
		return fmt.Sprintf("%s is still primary: %s.\n", s.Primary, s.Because)
	}
	return fmt.Sprintf("Switchover from %s to %s is %s. Follow it with: quorate status\n", s.From, target, s.Stage)
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
