package pg

import "unicode/utf8"

// Excerpt is text, or so much of its beginning as fits into limit bytes with the mark that it was cut, if there is room for that.
func Excerpt(text string, limit int) string {
	cut := " ..."
	if len(text) <= limit {
		return text
	}
	if limit < len(cut) {
		cut = ""
	}
	end := max(0, limit-len(cut))
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + cut
}
