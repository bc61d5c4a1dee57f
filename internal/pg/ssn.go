package pg

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// ErrSSN says that a synchronous_standby_names was not written by quorate.
var ErrSSN = errors.New("not a synchronous_standby_names that quorate writes")

// FormatSSN renders synchronous_standby_names: a commit waits for any k of names. With k below 1
// or no names the result is empty, which means that commits wait for nobody. k may exceed the
// number of names: then PostgreSQL lets no commit through.
//
// Names compare without regard to case in PostgreSQL and "*" matches every standby even in
// quotes; callers pass node names, which contain neither.
func FormatSSN(k int, names []string) string {
	if k < 1 || len(names) == 0 {
		return ""
	}
	quoted := make([]string, len(names))
	for i, name := range names {
		quoted[i] = QuoteIdent(name)
	}
	return fmt.Sprintf("ANY %d (%s)", k, strings.Join(quoted, ","))
}

// ParseSSN reads what FormatSSN writes, blanks between the tokens allowed. The empty setting is
// 0 and no names. Every other form PostgreSQL knows (FIRST, bare lists, unquoted names) is
// ErrSSN: somebody else wrote it.
func ParseSSN(text string) (k int, names []string, err error) {
	rest := strings.TrimSpace(text)
	if rest == "" {
		return 0, nil, nil
	}
	count, list, ok := cutSSN(rest)
	if !ok {
		return 0, nil, fmt.Errorf("%w: %q", ErrSSN, text)
	}
	v, err := strconv.ParseUint(count, 10, 31)
	if err != nil || v == 0 || count[0] == '+' {
		return 0, nil, fmt.Errorf("%w: %q: the count must be at least 1", ErrSSN, text)
	}
	names, ok = parseQuotedList(list)
	if !ok {
		return 0, nil, fmt.Errorf("%w: %q: names must be quoted, separated by commas", ErrSSN, text)
	}
	return int(v), names, nil
}

// cutSSN splits `ANY count (list)`.
func cutSSN(text string) (count, list string, ok bool) {
	if len(text) < 4 || !strings.EqualFold(text[:3], "ANY") || (text[3] != ' ' && text[3] != '\t') {
		return "", "", false
	}
	head, list, ok := strings.Cut(text[4:], "(")
	if !ok || !strings.HasSuffix(list, ")") {
		return "", "", false
	}
	return strings.TrimSpace(head), list[:len(list)-1], true
}

// parseQuotedList reads `"a", "b""c"` with at least one non-empty name.
func parseQuotedList(list string) ([]string, bool) {
	var names []string
	for {
		name, rest, ok := cutQuoted(strings.TrimSpace(list))
		if !ok || name == "" {
			return nil, false
		}
		names = append(names, name)
		rest = strings.TrimSpace(rest)
		if rest == "" {
			return names, true
		}
		if rest[0] != ',' {
			return nil, false
		}
		list = rest[1:]
	}
}

// cutQuoted takes one identifier in double quotes from the beginning of text.
func cutQuoted(text string) (name, rest string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", false
	}
	var out strings.Builder
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] != '"':
			out.WriteByte(text[i])
		case i+1 < len(text) && text[i+1] == '"':
			out.WriteByte('"')
			i++
		default:
			return out.String(), text[i+1:], true
		}
	}
	return "", "", false
}
