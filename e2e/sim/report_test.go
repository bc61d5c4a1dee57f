package sim

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// The longest gap of a fault names the seed that shows it again, whichever run it was added by.
func TestTheLongestGapNamesItsSeed(t *testing.T) {
	total := newStats()
	for _, g := range []gap{{2 * time.Second, 11}, {5 * time.Second, 8}, {5 * time.Second, 7}, {3 * time.Second, 12}} {
		one := newStats()
		one.fault("trap")
		one.Gaps["trap"] = []gap{g}
		total.Add(one)
	}
	total.fault("ring")
	var out strings.Builder
	total.Print(&out, 4)
	for _, want := range []string{`(?m)^trap +4 +4 +5000 +5000 +5000 +5000 +7$`, `(?m)^ring +1 +0$`} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("%s is not in\n%s", want, out.String())
		}
	}
}
