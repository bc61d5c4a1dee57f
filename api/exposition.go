package api

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// exposition collects metrics in Prometheus' text format. All samples carry the same two labels first.
type exposition struct {
	b      strings.Builder
	labels string
}

func newExposition(scope, name string) *exposition {
	return &exposition{labels: label("scope", scope) + "," + label("name", name)}
}

func label(name, value string) string {
	return name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value) + `"`
}

// gauge and counter write a metric with one sample.
func (e *exposition) gauge(name, help string, value float64)   { e.one(name, help, "gauge", value) }
func (e *exposition) counter(name, help string, value float64) { e.one(name, help, "counter", value) }

func (e *exposition) one(name, help, kind string, value float64) {
	e.head(name, help, kind)
	e.sample(name, "", value)
}

// each writes a gauge with one sample per value of a label, in their order.
func (e *exposition) each(name, help, by string, values map[string]float64) {
	if len(values) == 0 {
		return
	}
	e.head(name, help, "gauge")
	keys := make([]string, 0, len(values))
	for k := range values {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		e.sample(name, ","+label(by, k), values[k])
	}
}

func (e *exposition) head(name, help, kind string) {
	fmt.Fprintf(&e.b, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
}

func (e *exposition) sample(name, more string, value float64) {
	fmt.Fprintf(&e.b, "%s{%s%s} %s\n", name, e.labels, more, number(value))
}

// number writes whole numbers with all their digits.
func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}
