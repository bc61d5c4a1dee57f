package history_test

import (
	"strings"
	"testing"

	"github.com/quorate/quorate/lab/history"
)

func TestHistogram(t *testing.T) {
	h := history.HistogramOf([]float64{0, 100, 100.01, 700, 701, 1999, 9000, 10_000, 10_001, 60_000})
	if want := (history.Histogram{2, 1, 0, 2, 0, 1, 0, 2, 2}); h != want {
		t.Errorf("%v, want %v", h, want)
	}
	if head, line := history.HistogramHead(), h.String(); len(head) != len(line) || len(strings.Fields(head)) != len(h) || len(strings.Fields(line)) != len(h) {
		t.Errorf("the columns do not match:\n%s\n%s", head, line)
	}
}
