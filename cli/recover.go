package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/node"
)

func (a *app) recoverVerb() *cobra.Command {
	var confirm string
	cmd := &cobra.Command{
		Use: "recover -c FILE", Short: "Go on with this node alone after a majority was lost for good",
		Long: `Go on with this node alone after a majority of the voters was lost for good. Its daemon must not run.

The cluster gets a new id, and this node is its only member. Commits that were acknowledged by copies on other nodes only are
lost. The other nodes must never run again as they were: a majority of them would go on as the old cluster, with a primary of
its own. Empty their cluster.data_dir, move their PostgreSQL data away, take cluster.peers out of their node files, and join them.

It shows what this node knows and has, and asks the others whether they live: if a majority does, it refuses. It also refuses on a
node that was removed from the cluster, or is being removed: the others go on without it. Where more than one
host is left, look at each before you confirm anything. The Raft log with the higher term, then the later entry, knows better who was
primary last; the PostgreSQL log that is on that primary's timeline and ends later has more commits. A node whose Raft log is gone, or
ends before what it had applied, goes on from what it had applied, and says so.

It asks for the name of the cluster, or takes it from --confirm.

Exit code: 0 done, 5 refused, 1 failed.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if a.nodeFile == "" {
				return codeError{exitUsage, errors.New("which node? give its node file: quorate recover -c FILE")}
			}
			cfg, err := config.Load(a.nodeFile, a.env)
			if err != nil {
				return codeError{exitUsage, err}
			}
			return a.recover(cmd, cfg, confirm)
		},
	}
	cmd.Flags().StringVar(&confirm, "confirm", "", "the `scope` of the cluster, instead of typing it")
	return cmd
}

func (a *app) recover(cmd *cobra.Command, cfg config.Config, confirm string) error {
	if _, err := client.Unix(filepath.Join(cfg.Cluster.DataDir, client.SocketName)).Status(cmd.Context()); !errors.Is(err, client.ErrUnreachable) {
		return codeError{exitRefused, fmt.Errorf("the daemon of %s runs: end it first (its PostgreSQL stays up, without a lease it accepts no writes)", cfg.Name)}
	}
	left, err := node.Inspect(cfg)
	if node.Refused(err) {
		return codeError{exitRefused, err}
	}
	if err != nil {
		return err
	}
	log := hclog.New(&hclog.LoggerOptions{Name: cfg.Name, Level: hclog.Warn, Output: a.err})
	alive, majority, err := node.Answering(cmd.Context(), cfg, log)
	if err != nil {
		return fmt.Errorf("ask who else is left: %w", err)
	}
	if err := a.print(renderRemains(left, alive)); err != nil {
		return err
	}
	if majority {
		return codeError{exitRefused, fmt.Errorf("%s answered: with this node that is a majority of the voters, and nothing is to be recovered. Start this node: quorate run -c %s. "+
			"If they are to be given up all the same, end their daemons for good first; nothing was changed", strings.Join(alive, ", "), a.nodeFile)}
	}
	if confirm == "" {
		if err := a.print("\nType the name of the cluster to go on: "); err != nil {
			return err
		}
		line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read the name: %w", err)
		}
		confirm = strings.TrimSpace(line)
	}
	if confirm != cfg.Scope {
		return codeError{exitRefused, fmt.Errorf("%q is not the name of the cluster (%s): nothing was changed", confirm, cfg.Scope)}
	}
	kept, err := node.Recover(cfg, log)
	if err != nil {
		return err
	}
	return a.print(fmt.Sprintf(`
%s is the only member now. What was there before is kept in %s.
Start it: quorate run -c %s
Then, on each other node, empty cluster.data_dir, move postgresql.data_dir away, take cluster.peers out of the node file, and
join it: quorate token
If archive_command keeps log outside, give it another place first: the nodes that were given up may have used the same timelines.
`, cfg.Name, kept, a.nodeFile))
}

// renderRemains says what is known, what of the others is alive, and what will be given up.
func renderRemains(r node.Remains, alive []string) string {
	s := r.State
	var b strings.Builder
	fmt.Fprintf(&b, "This node: %s. Cluster %s, epoch %d, primary %s, generation %d.\n", s.Name(r.Self), s.Scope, s.Epoch, s.Name(s.Primary), s.Generation)
	b.WriteString(cmp.Or(r.Doubt, fmt.Sprintf("Its Raft log ends with entry %d of term %d.", r.Index, r.Term)) + "\n")
	if p := r.Postgres; p.Problem != "" {
		fmt.Fprintf(&b, "Its PostgreSQL can't go on as it is: %s.\n", p.Problem)
	} else {
		fmt.Fprintf(&b, "Its PostgreSQL is usable (%s): timeline %d, the log ends at %s.\n", p.State, p.End.Timeline, p.End.LSN)
	}
	var others []string
	for id, m := range s.Members {
		if id != r.Self {
			others = append(others, m.Name+" ("+m.Addr+")")
		}
	}
	slices.Sort(others)
	fmt.Fprintf(&b, "Given up for good: %s.\n", strings.Join(others, ", "))
	if len(alive) > 0 {
		fmt.Fprintf(&b, "Of these answered: %s. End them for good before you go on.\n", strings.Join(alive, ", "))
	}
	if s.Paused && s.Primary != r.Self {
		fmt.Fprintf(&b, "The cluster is paused: PostgreSQL of %s may accept writes for as long as it runs. End it before you go on.\n", s.Name(s.Primary))
	}
	switch {
	case s.Primary == r.Self:
		b.WriteString("This node was the primary when it last knew: it has every commit that it acknowledged. If another one was appointed\nafter that, what that one acknowledged is lost.\n")
	case len(s.Sync.Members) == 0:
		b.WriteString("With durability async nobody knows which of the primary's last commits this node has.\n")
	default:
		fmt.Fprintf(&b, "A commit was acknowledged with %d copies among %s. Those of which no copy is here are lost.\n", s.Sync.Copies, strings.Join(s.Names(s.Sync.Members), ", "))
	}
	return b.String()
}
