package quorate_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// faultsPage lists what can go wrong, and which test shows what happens then.
const faultsPage = "docs/faults.md"

// faultNumbers are those of the page, in their order. They were given long ago, two of them late.
func faultNumbers() (numbers []string) {
	for n := 1; n <= 133; n++ {
		numbers = append(numbers, itoa(n))
		if n == 94 {
			numbers = append(numbers, "94b", "94c")
		}
	}
	return numbers
}

var (
	faultsStated = regexp.MustCompile(`^(\d+) faults: (\d+) are shown by a test that runs, (\d+) are not covered\.$`)
	faultRow     = regexp.MustCompile(`^\| (\d+[a-z]?) \|(.*)\| ([^|]*) \|$`)
	faultTest    = regexp.MustCompile("^`(\\S+) ((?:Test|Fuzz)\\w+)(?:/([^`]+))?`$")
)

const (
	notCovered = "not covered, because "
	nextTest   = "<br>" // between two of them
)

// faultTests: every fault has its number once, in order, and a test that exists, or the reason why there is none; and the
// page counts right. A test that was renamed or deleted would leave a promise behind that nobody keeps.
func faultTests(r repo) (complaints []string) {
	at := slices.IndexFunc(r.texts, func(t text) bool { return t.name == faultsPage })
	if at < 0 {
		return []string{faultsPage + ": it is not there"}
	}
	complain := func(line int, format string, args ...any) {
		complaints = append(complaints, fmt.Sprintf("%s:%d: ", faultsPage, line+1)+fmt.Sprintf(format, args...))
	}
	var stated []string
	var numbers []string
	shown := 0
	for i, line := range r.texts[at].lines {
		if m := faultsStated.FindStringSubmatch(line); m != nil {
			stated = m[1:]
		}
		m := faultRow.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		numbers = append(numbers, m[1])
		if why, ok := strings.CutPrefix(m[3], notCovered); ok {
			if strings.TrimSpace(why) == "" {
				complain(i, "no reason is given")
			}
			continue
		}
		shown++
		for cell := range strings.SplitSeq(m[3], nextTest) {
			if why := r.noTest(cell); why != "" {
				complain(i, "%s", why)
			}
		}
	}
	if want := faultNumbers(); !slices.Equal(numbers, want) {
		complain(0, "it has the faults %v, not each of %v once and in order", numbers, want)
	}
	if counted := []string{itoa(len(numbers)), itoa(shown), itoa(len(numbers) - shown)}; !slices.Equal(stated, counted) {
		complain(0, "it says %v faults, shown, not covered; there are %v", stated, counted)
	}
	return complaints
}

// noTest says what is wrong with the name of a test in the page; empty: nothing. A subtest is a text in the Go code of the
// test's package or of the lab, whose faults have names, or a file of stories.
func (r repo) noTest(cell string) string {
	m := faultTest.FindStringSubmatch(cell)
	if m == nil {
		return fmt.Sprintf("%q is no test's name and no reason", cell)
	}
	dir, name, sub := m[1], m[2], m[3]
	exists, found := false, sub == ""
	for _, f := range r.goFiles {
		if f.isTest() && f.dir == dir {
			exists = exists || slices.ContainsFunc(f.lines, func(line string) bool { return strings.HasPrefix(line, "func "+name+"(") })
		}
		if f.dir == dir || f.dir == "lab" {
			found = found || slices.ContainsFunc(f.lines, func(line string) bool { return strings.Contains(line, `"`+sub+`"`) })
		}
	}
	for _, t := range r.texts {
		found = found || under(t.name, dir+"/testdata") && strings.HasSuffix(t.name, "/"+sub)
	}
	switch {
	case !exists:
		return fmt.Sprintf("there is no %s in %s", name, dir)
	case !found:
		return fmt.Sprintf("%s of %s has no %q", name, dir, sub)
	}
	return ""
}

// faultCases are the page and tests as they may and may not be. The page has every number, with one thing changed.
func faultCases() (cases []ruleCase) {
	page := func(change func(number string) (cell string), states string) map[string]string {
		var b strings.Builder
		b.WriteString("# Faults\n\n" + states + "\n\n| | fault | what happens | shown by |\n|---|---|---|---|\n")
		for _, n := range faultNumbers() {
			if cell := change(n); cell != "" {
				fmt.Fprintf(&b, "| %s | x | y | %s |\n", n, cell)
			}
		}
		return map[string]string{
			faultsPage: b.String(), "fsm/a_test.go": "package fsm\nfunc TestA(t T) { t.Run(\"one of them\", nil) }\nfunc FuzzB(f F) {}\n",
			"fsm/testdata/silent.txt": "a story\n", "failover/a.go": "package failover\nfunc TestA() {}\n",
		}
	}
	const good, all, short = "`fsm TestA`", "135 faults: 135 are shown by a test that runs, 0 are not covered.",
		"135 faults: 134 are shown by a test that runs, 1 are not covered."
	seventh := func(cell string) func(string) string {
		return func(n string) string {
			if n == "7" {
				return cell
			}
			return good
		}
	}
	return []ruleCase{
		{"all are shown", page(seventh(good), all), false},
		{"by more than one, a fuzz target, a subtest, a story", page(seventh("`fsm FuzzB`<br>`fsm TestA/one of them`<br>`fsm TestA/silent.txt`"), all), false},
		{"one is not, for a reason", page(seventh("not covered, because it can't be"), short), false},
		{"no page", map[string]string{"docs/a.md": "x\n"}, true},
		{"no such test", page(seventh("`fsm TestB`"), all), true},
		{"in another package", page(seventh("`cluster TestA`"), all), true},
		{"a function that is no test's", page(seventh("`failover TestA`"), all), true},
		{"no such subtest", page(seventh("`fsm TestA/two of them`"), all), true},
		{"the second does not exist", page(seventh(good+"<br>`fsm TestB`"), all), true},
		{"neither test nor reason", page(seventh("by hand"), all), true},
		{"a reason without words", page(seventh("not covered, because  "), short), true},
		{"a number is missing", page(seventh(""), "134 faults: 134 are shown by a test that runs, 0 are not covered."), true},
		{"a number is there twice", page(seventh(good+" |\n| 7 | x | y | "+good), "136 faults: 136 are shown by a test that runs, 0 are not covered."), true},
		{"it counts wrong", page(seventh(good), short), true},
		{"it does not count", page(seventh(good), ""), true},
	}
}
