package pgctl

import (
	"io"
	"os"
	"regexp"
	"strings"
)

// lastWordsReach is how much of the end of the log is looked through for what ended a server.
const lastWordsReach = 16 << 10

// LastWords is the last thing that the newest server wrote into its log as the reason for its end, empty if it wrote
// none there. It says no more than its log, and never fails.
func (i *Instance) LastWords() string {
	_, _, seen := i.snapshot()
	f, err := os.Open(i.cfg.LogFile())
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }()
	from := max(seen.logFrom, i.logSize()-lastWordsReach)
	text, err := io.ReadAll(io.NewSectionReader(f, from, lastWordsReach))
	if err != nil {
		return ""
	}
	return lastWords(string(text))
}

// logSize is the length of the server's log file, 0 if there is none.
func (i *Instance) logSize() int64 {
	info, err := os.Stat(i.cfg.LogFile())
	if err != nil {
		return 0
	}
	return info.Size()
}

// fatal is how Postgres begins a message after which the process that wrote it ends.
var fatal = regexp.MustCompile(`(?:FATAL|PANIC):  (.*)`)

// lastWords finds the last reason in the log. What sessions were told that came too early or too late is none.
func lastWords(log string) string {
	found := ""
	for line := range strings.Lines(log) {
		m := fatal.FindStringSubmatch(strings.TrimRight(line, "\n"))
		if m != nil && !strings.HasPrefix(m[1], "the database system is ") && !strings.HasPrefix(m[1], "terminating ") {
			found = m[1]
		}
	}
	return found
}
