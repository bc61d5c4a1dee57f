package node

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/fsm"
	"github.com/quorate/quorate/pgctl"
	"github.com/quorate/quorate/pgctl/guard"
)

// What the API has a node do: here, or by the API of the node that is meant.

// peers reaches the APIs of other nodes.
type peers struct {
	n   *Node
	tls *tls.Config // of this node's API, nil for plain HTTP
}

// at asks the API of a node that is not this one. An error that is no Problem says whom it could not ask.
func (p peers) at(node fsm.NodeID, ask func(c *client.Client, name string) error) error {
	m := p.n.cluster.State().Members[node]
	trust := p.tls
	if trust != nil {
		now, err := trust.GetConfigForClient(nil) // as the files are now
		if err != nil {
			return err
		}
		trust = now
	}
	token := ""
	if tokens := *p.n.tokens.Load(); len(tokens) > 0 {
		token = tokens[0]
	}
	if err := ask(client.TLS(m.API, token, trust), m.Name); err != nil {
		return fmt.Errorf("ask %s at %s: %w", m.Name, m.API, err)
	}
	return nil
}

func (p peers) restart(ctx context.Context, node fsm.NodeID, pending bool) (done bool, err error) {
	if node == p.n.cluster.Self() {
		return p.n.restartHere(ctx, pending)
	}
	err = p.at(node, func(c *client.Client, name string) error {
		out, err := c.Restart(ctx, name, pending)
		done = out.Restarted
		return err
	})
	return done, err
}

func (p peers) reinit(ctx context.Context, node fsm.NodeID, force bool) error {
	if node == p.n.cluster.Self() {
		return p.n.reinitHere(ctx, force)
	}
	return p.at(node, func(c *client.Client, name string) error {
		_, err := c.Reinit(ctx, name, force)
		return err
	})
}

func (p peers) reload(ctx context.Context, node fsm.NodeID) (out api.Reloaded, err error) {
	if node == p.n.cluster.Self() {
		return p.n.reloadHere(ctx)
	}
	err = p.at(node, func(c *client.Client, name string) error {
		out, err = c.Reload(ctx, name)
		return err
	})
	return out, err
}

func (n *Node) reinitHere(ctx context.Context, force bool) error {
	if n.postgres == nil {
		return fmt.Errorf("%w: %w", api.ErrRefused, errNoPostgres)
	}
	_, err := n.ask(&restartRequest{ctx: ctx, reinit: true, force: force, done: make(chan restartOutcome, 1)})
	return err
}

// reinitStep takes a copy that was asked for as far as its plan on disk, which outlives the request. It returns true while
// the data directory shall be replaced.
func (a *agent) reinitStep(state fsm.State) bool {
	r, now := &a.restart, guard.Now()
	making := a.have.Clone != nil && a.have.Dir.Gone == "" // where the directory is gone, a copy that was begun waits to be asked for
	switch {
	case r.epoch == 0 && making:
		a.endRestart(false, fmt.Errorf("%w: a copy is being made already", api.ErrRefused))
	case r.epoch == 0:
		return a.beginRestart(state, now, false)
	case making:
		a.endRestart(true, nil)
	case r.gone && a.have.Dir.Gone == "":
		a.endRestart(false, errors.New("the data directory was gone when a copy was asked for, and is back; if it shall be replaced, ask again"))
	case state.Epoch != r.epoch:
		a.endRestart(false, fmt.Errorf("epoch %d began before the copy was begun; ask again", state.Epoch))
	case now-r.since > restartBox:
		a.endRestart(false, fmt.Errorf("the copy was not begun in %s; the next step is %s: %s",
			restartBox, a.lastStep.Kind, a.lastStep.Because))
	default:
		return true
	}
	return false
}

// reloadBox bounds the check of what a file says.
const reloadBox = 10 * time.Second

// reloadHere reads the node file again. What Postgres is to have goes to the agent as a new document would; what it refuses
// changes nothing.
func (n *Node) reloadHere(ctx context.Context) (api.Reloaded, error) {
	n.reloading.Lock()
	defer n.reloading.Unlock()
	now, err := n.opts.Reload()
	if err != nil {
		return api.Reloaded{}, fmt.Errorf("%w: %w", api.ErrRefused, err)
	}
	out := reloaded(n.cfg, n.own(), now)
	if d, err := config.ReadDCS([]byte(n.cluster.State().Config.Doc)); err == nil && n.postgres != nil {
		ctx, cancel := context.WithTimeout(ctx, reloadBox)
		defer cancel()
		if err := n.postgres.CheckParameters(ctx, parameters(0, d, now.PostgreSQL)); errors.Is(err, pgctl.ErrParameters) {
			return api.Reloaded{}, fmt.Errorf("%w: %w", api.ErrRefused, err)
		} else if err != nil {
			n.log.Warn("settings could not be checked before they are given to Postgres, which checks them again", "error", err)
		}
	}
	n.file.Store(&now.PostgreSQL)
	n.poke()
	n.log.Info("read the node file again", "taken", out.Taken, "waits for a restart of the daemon", out.Restart)
	return out, nil
}

// own is what the node file says of Postgres, as it was read last.
func (n *Node) own() config.PostgreSQL {
	if p := n.file.Load(); p != nil {
		return *p
	}
	return n.cfg.PostgreSQL
}

// reloaded says what of a file that was read again holds from now on, and what would need a start of the daemon, which was
// started with first and had own of Postgres since.
func reloaded(first config.Config, own config.PostgreSQL, now config.Config) api.Reloaded {
	out := api.Reloaded{Node: first.Name, Taken: []string{}, Restart: []string{}}
	if !maps.Equal(own.Parameters, now.PostgreSQL.Parameters) {
		out.Taken = append(out.Taken, "postgresql.parameters")
	}
	if !slices.Equal(own.PgHBA, now.PostgreSQL.PgHBA) {
		out.Taken = append(out.Taken, "postgresql.pg_hba")
	}
	now.PostgreSQL.Parameters, now.PostgreSQL.PgHBA = first.PostgreSQL.Parameters, first.PostgreSQL.PgHBA
	was, is := reflect.ValueOf(first), reflect.ValueOf(now)
	for i := range was.NumField() {
		key := was.Type().Field(i).Tag.Get("yaml")
		// What makes the cluster is read only when there is none.
		if key != "bootstrap" && !reflect.DeepEqual(was.Field(i).Interface(), is.Field(i).Interface()) {
			out.Restart = append(out.Restart, key)
		}
	}
	return out
}

// reloadWhenAsked reads the file again on each Options.Hangup until ctx ends.
func (n *Node) reloadWhenAsked(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.opts.Hangup:
			select {
			case n.reread <- struct{}{}:
			default: // somebody looks already
			}
			if _, err := n.reloadHere(ctx); err != nil {
				n.log.Error("the node file was read again and can't be used; what was before stays", "error", err)
			}
		}
	}
}
