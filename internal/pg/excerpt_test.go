package pg

import "testing"

// TestExcerpt: what is too long is cut between two characters, and says so.
func TestExcerpt(t *testing.T) {
	for _, c := range []struct {
		text  string
		limit int
		want  string
	}{
		{"", 8, ""}, {"12345678", 8, "12345678"}, {"123456789", 8, "1234 ..."}, {"123ä56789", 8, "123 ..."}, {"\x80\x80\x80\x80\x80\x80", 5, " ..."},
		{"123456789", 4, " ..."}, {"123456789", 3, "123"}, {"1ä3", 2, "1"}, {"1", 0, ""}, {"1", -1, ""},
	} {
		if got := Excerpt(c.text, c.limit); got != c.want {
			t.Errorf("%q in %d bytes: %q", c.text, c.limit, got)
		}
	}
}
