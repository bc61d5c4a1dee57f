package cli

import (
	"fmt"
	"slices"
	"strings"
)

// Build is what a program knows of how it was built.
type Build struct {
	Version string
	Tags    string // as the go tool recorded them
}

const (
	withoutTag = "without_" // of a mechanism that was left out (docs/decisions/0017)
	consent    = "QUORATE_NEGATIVE_CONTROL"
)

// without names the mechanisms that the program was built without.
func (b Build) without() (lacks []string) {
	for _, tag := range strings.FieldsFunc(b.Tags, func(r rune) bool { return r == ',' || r == ' ' }) {
		if name, is := strings.CutPrefix(tag, withoutTag); is {
			lacks = append(lacks, name)
		}
	}
	return lacks
}

// withoutConsent takes the one variable out of an environment that is no key of the node file, and says whether it is 1.
func withoutConsent(env []string) (rest []string, allowed bool) {
	rest = slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, value, _ := strings.Cut(kv, "=")
		allowed = allowed || name == consent && value == "1"
		return name == consent
	})
	return rest, allowed
}

// maimed refuses to run a node by a program that lacks what keeps its data, but for whoever says that he knows.
func (a *app) maimed() error {
	if len(a.lacks) == 0 || a.allowed {
		return nil
	}
	return fmt.Errorf("this program was built without %s, to show that tests notice: it loses data. Build it "+
		"again without the tag %s%s, or set %s=1", strings.Join(a.lacks, ", "), withoutTag, a.lacks[0], consent)
}
