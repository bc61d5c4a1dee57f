// Command negative runs the negative controls (docs/decisions/0017): the product is built without one mechanism at a time, and
// the catcher that each names has to find something, and nothing in the product as it is.
//
// It must never take for caught what did not run, nor what was found for another reason: a build or a lab that fails is an error
// and no catch, and each control names what it is to be found by.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const usage = `negative VERB [flags] [tag ...]: all tags if none is named

  simulator  play seeds of the simulator, built without each mechanism, until what it keeps is violated; then a clean build
  unit       run the product's own test that fails without the mechanism, with the tag and without it
  chaos      quorate lab chaos --traps with each program, and with the clean one for as long; needs root
  vet        go vet with each tag, over the directory that this is run in
  hunt       play seeds with this program as it was built
`

// errMissed says that a mechanism was not missed, or that the clean build shows something.
var errMissed = errors.New("a control failed")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "negative:", err) // there is nobody to tell that stderr is gone
		os.Exit(1)
	}
}

// run is one command line. Progress goes to talk, the table to out.
func run(ctx context.Context, args []string, out, talk io.Writer) error {
	o := options{talk: talk}
	if len(args) == 0 {
		o.say("%s", usage)
		return errors.New("which verb?")
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(talk)
	f.Uint64Var(&o.first, "first", 1, "the first `seed` of the simulator")
	f.Uint64Var(&o.seeds, "seeds", limitSeeds, "how many seeds at most")
	f.StringVar(&o.what, "what", "", "which `invariants` are hunted, with commas between (default: all)")
	f.Float64Var(&o.minutes, "minutes", limitMinutes, "how many minutes of chaos at most")
	f.Uint64Var(&o.seed, "seed", 1, "the `seed` of chaos")
	f.StringVar(&o.dir, "out", "", "`directory` for programs and raw histories (default: a new one)")
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	chosen, err := choose(f.Args())
	if err != nil {
		return err
	}
	if args[0] == "hunt" {
		return printHunt(out, hunt(ctx, o.first, o.seeds, strings.FieldsFunc(o.what, func(r rune) bool { return r == ',' })))
	}
	verbs := map[string]func(context.Context, options, []control, io.Writer) error{
		"simulator": simulate, "unit": units, "chaos": chaos, "vet": vet,
	}
	verb, ok := verbs[args[0]]
	if !ok {
		o.say("%s", usage)
		return fmt.Errorf("there is no verb %q", args[0])
	}
	if o.dir != "" {
		return verb(ctx, o, chosen, out)
	}
	if o.dir, err = os.MkdirTemp("", "quorate-negative-"); err != nil {
		return fmt.Errorf("make a directory for the programs: %w", err)
	}
	if err = verb(ctx, o, chosen, out); args[0] == "chaos" {
		o.say("programs and raw histories: %s", o.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(o.dir))
}

// options are what the flags say.
type options struct {
	first, seeds uint64
	what         string
	minutes      float64
	seed         uint64
	dir          string
	talk         io.Writer
}

func (o options) say(format string, args ...any) {
	_, _ = fmt.Fprintf(o.talk, format+"\n", args...) // there is nobody to tell that it is gone
}

// choose returns the controls of these tags, in the order of the table.
func choose(tags []string) (chosen []control, err error) {
	for _, c := range controls() {
		if len(tags) == 0 || slices.Contains(tags, c.tag) {
			chosen = append(chosen, c)
		}
	}
	for _, t := range tags {
		if !slices.ContainsFunc(chosen, func(c control) bool { return c.tag == t }) {
			return nil, fmt.Errorf("no control has the tag %q", t)
		}
	}
	return chosen, nil
}

// tagsOf is the -tags of a build without a mechanism; "" is the clean build.
func tagsOf(tag string) string {
	if tag == "" {
		return "hashicorpmetrics"
	}
	return "hashicorpmetrics,without_" + tag
}

// build makes a program of a package and returns where it is.
func (o options) build(ctx context.Context, pkg, tag string) (string, error) {
	name := filepath.Join(o.dir, strings.Trim(filepath.Base(pkg)+"-"+tag, "-"))
	if tag == "" {
		name += "-clean"
	}
	cmd := goCommand(ctx, "build", "-tags", tagsOf(tag), "-o", name, pkg)
	cmd.Stdout, cmd.Stderr = o.talk, o.talk
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("build %s without %q: %w", pkg, tag, err)
	}
	return name, nil
}

// goCommand is the go tool. It takes the tags of its command line instead of those in GOFLAGS.
func goCommand(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "go", args...)
}

// vet lets the compiler see what no other build does.
func vet(ctx context.Context, o options, chosen []control, out io.Writer) error {
	var errs []error
	for _, c := range chosen {
		cmd := goCommand(ctx, "vet", "-tags", tagsOf(c.tag), "./...")
		cmd.Stdout, cmd.Stderr = o.talk, o.talk
		if err := cmd.Run(); err != nil {
			errs = append(errs, fmt.Errorf("vet without %s: %w", c.tag, err))
			continue
		}
		if _, err := fmt.Fprintf(out, "without_%s: go vet finds nothing\n", c.tag); err != nil {
			return err
		}
	}
	return errors.Join(errs...)
}
