package history

import (
	"fmt"
	"strings"
)

// bounds are the upper ends of a histogram's buckets in milliseconds; the last has none.
var bounds = []float64{100, 250, 500, 1000, 1500, 2000, 5000, 10_000}

// Histogram counts values by size.
type Histogram [9]int

// HistogramOf counts values, in milliseconds.
func HistogramOf(values []float64) (h Histogram) {
	for _, v := range values {
		i := 0
		for i < len(bounds) && v > bounds[i] {
			i++
		}
		h[i]++
	}
	return h
}

// HistogramHead names the buckets, in as many columns as String has.
func HistogramHead() string {
	var b strings.Builder
	for _, most := range bounds {
		fmt.Fprintf(&b, " %6s", "<="+strings.TrimSuffix(fmt.Sprintf("%.2f", most/1000), "0"))
	}
	return b.String() + "   more"
}

func (h Histogram) String() string {
	var b strings.Builder
	for _, n := range h {
		if n == 0 {
			fmt.Fprintf(&b, " %6s", ".")
		} else {
			fmt.Fprintf(&b, " %6d", n)
		}
	}
	return b.String()
}
