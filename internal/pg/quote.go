package pg

import "strings"

// QuoteIdent quotes an SQL identifier. The result is always in double quotes, so keywords and
// capital letters survive. A NUL byte cannot be part of an identifier and is dropped.
func QuoteIdent(name string) string {
	name = strings.ReplaceAll(name, "\x00", "")
	return `"` + strings.ReplaceAll(name, `"`, `""`) + `"`
}

// QuoteLiteral quotes an SQL string literal so that it means the same whatever
// standard_conforming_strings is: with a backslash inside, the E'...' form is used. A NUL byte
// cannot be part of a text and is dropped.
func QuoteLiteral(value string) string {
	value = strings.ReplaceAll(value, "\x00", "")
	value = strings.ReplaceAll(value, `'`, `''`)
	if !strings.Contains(value, `\`) {
		return `'` + value + `'`
	}
	// The leading space keeps the E apart from a keyword before it.
	return ` E'` + strings.ReplaceAll(value, `\`, `\\`) + `'`
}

// QuoteConninfo quotes the value of one key=value pair of a libpq connection string.
func QuoteConninfo(value string) string {
	value = strings.ReplaceAll(value, "\x00", "")
	value = strings.ReplaceAll(value, `\`, `\\`)
	return `'` + strings.ReplaceAll(value, `'`, `\'`) + `'`
}
