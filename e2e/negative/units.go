package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
)

// units has the product's own test of each mechanism fail without it, and pass in the clean build. It shows that the tag reaches
// the product where the simulator plays a model.
func units(ctx context.Context, o options, chosen []control, out io.Writer) error {
	var t table
	for _, c := range chosen {
		failed, err := fails(ctx, c, c.tag)
		if err != nil {
			return err
		}
		failedClean, err := fails(ctx, c, "")
		if err != nil {
			return err
		}
		l := line{control: c, after: c.pkg + " " + c.test}
		if failed {
			l.found = "fails"
		}
		if failedClean {
			l.clean = "a failure"
		}
		o.say("%s: %s fails: %t; in the clean build: %t", c.tag, l.after, failed, failedClean)
		t = append(t, l)
	}
	return t.print(out)
}

// fails runs the test. An error says that it did not come to a verdict.
func fails(ctx context.Context, c control, tag string) (bool, error) {
	cmd := goCommand(ctx, "test", "-tags", tagsOf(tag), "-count", "1", "-v", "-run", "^"+c.test+"$", c.pkg)
	b, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	switch {
	case err == nil && bytes.Contains(b, []byte("--- PASS: "+c.test+" ")):
		return false, nil
	case errors.As(err, &ended) && bytes.Contains(b, []byte("--- FAIL: "+c.test+" ")):
		return true, nil
	}
	return false, fmt.Errorf("%s of %s without %q came to no verdict: %w\n%s", c.test, c.pkg, tag, errors.Join(err, ctx.Err()), b)
}
