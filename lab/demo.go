package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/quorate/quorate/lab/history"
)

// Demonstrate makes a lab, kills the primary's host under load, shows what happened and removes everything, whatever
// happens. ErrUnsafe if a promise was broken.
func Demonstrate(ctx context.Context, o Options) (err error) {
	o.Owned = true
	began := time.Now()
	l, err := Up(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		clean, stop := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
		defer stop()
		err = errors.Join(err, l.Down(clean))
		if err == nil {
			l.say("\nAll of it is gone again. It took %.0f s. Make one to keep with: quorate lab up", time.Since(began).Seconds())
		}
	}()
	kind := l.faults()[0]
	dir, err := os.MkdirTemp(l.dir, "demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the events: %w", err)
	}
	l.say("\n%d clients write, about 200 commits per second. Then the fault: %s.", writers, kind)
	t, f, err := l.Show(ctx, Plan{Kind: kind, Dir: dir, Name: "demo"})
	if err != nil {
		return err
	}
	l.say("")
	l.Tell(t)
	l.say("\n%s is primary now, epoch %d. Healing: %s comes back.", t.New, t.EpochAfter, t.Old)
	healing := time.Now()
	if _, err := l.Heal(ctx); err != nil {
		return err
	}
	how, err := l.rejoined(t)
	if err != nil {
		return err
	}
	l.say("%s is a standby of %s, %s, and all three copies are there again after %.1f s.", t.Old, t.New, how, time.Since(healing).Seconds())
	l.sum(f)
	if broken(l.Durability, f.Lost, f.Overlap, kind) {
		return ErrUnsafe
	}
	return nil
}

// rejoined says how the old primary came back.
func (l *Lab) rejoined(t Trial) (string, error) {
	log, err := l.logSince(t.Fault)
	if err != nil {
		return "", err
	}
	switch rejoin(t, log) {
	case "clone":
		return "copied anew with its old data kept aside", nil
	case "rewind":
		return "its data rewound to where the histories part", nil
	}
	return "with its data as it was", nil
}

// sum says in numbers what a fault cost.
func (l *Lab) sum(f history.Figures) {
	l.say("\nNobody could write for %.2f s. Of %d acknowledged commits %d were lost; %d got no answer. Two writers at once: %.0f ms.",
		f.WriteGap/1000, f.Acks, f.Lost, f.Unknown, f.Overlap)
}

// ShowFault makes a fault in a running lab and says what happened and what to do next.
func (l *Lab) ShowFault(ctx context.Context, kind string, leaderToo bool) error {
	if err := l.CanMake(kind); err != nil {
		return err
	}
	if _, why := l.whole(ctx); why != "" {
		return fmt.Errorf("%w, not now: %s. Try: quorate lab heal", ErrCannot, why)
	}
	dir, err := os.MkdirTemp(l.dir, "fault-")
	if err != nil {
		return fmt.Errorf("make a directory for the events: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	l.say("%d clients write; %s comes within five seconds", writers, kind)
	t, f, err := l.Show(ctx, Plan{Kind: kind, LeaderToo: leaderToo, Dir: dir, Name: "fault"})
	if err != nil {
		return err
	}
	l.Tell(t)
	l.sum(f)
	l.say("%s. Next: quorate lab heal", outcome(t))
	if broken(l.Durability, f.Lost, f.Overlap, kind) {
		return ErrUnsafe
	}
	return nil
}

// outcome says who is primary now, and whether that is due to the fault.
func outcome(t Trial) string {
	switch {
	case t.EpochAfter == t.EpochBefore:
		return fmt.Sprintf("No failover: %s goes on as primary, epoch %d", t.New, t.EpochAfter)
	case t.New == t.Old:
		return fmt.Sprintf("%s is primary again, epoch %d", t.New, t.EpochAfter)
	}
	return fmt.Sprintf("%s is primary now, epoch %d", t.New, t.EpochAfter)
}

// Describe shows what there is of the lab and how it is.
func (l *Lab) Describe(ctx context.Context, out io.Writer) error {
	l.out = out
	kept := "until `quorate lab down`"
	if l.Owner != nil {
		kept = fmt.Sprintf("until process %d ends", l.Owner.PID)
	}
	l.say("lab %s in %s, %s", l.ID, l.dir, kept)
	states, errs := l.Look(ctx)
	for _, n := range l.Nodes {
		daemon, postgres, says := "daemon runs", "no Postgres", ""
		if n.Witness {
			postgres = "witness, so no Postgres"
		}
		if !l.running(n) {
			daemon = "no daemon"
		}
		if pid, err := l.Postmaster(n); err == nil {
			postgres = fmt.Sprintf("Postgres is process %d", pid)
		}
		if err := errs[n.Name]; err != nil {
			says = err.Error()
		} else if s := states[n.Name]; s.Epoch > 0 {
			says = fmt.Sprintf("primary is %s, epoch %d", s.Primary, s.Epoch)
		}
		l.say("  %s  %-21s  %s, %s. It says: %s", n.Name, n.Postgres, daemon, postgres, says)
	}
	if _, why := l.whole(ctx); why != "" {
		l.say("not whole: %s", why)
		return nil
	}
	l.say("whole: every node runs, and every standby streams and keeps commits")
	return nil
}
