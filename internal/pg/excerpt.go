package pg

import "unicode/utf8"

// Excerpt is text, or so much of its beginning as fits into limit bytes with the mark that it was cut.
func Excerpt(text string, limit int) string {
	const cut = " ..."
	if len(text) <= limit {
		return text
	}
	end := max(0, limit-len(cut))
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + cut
}
