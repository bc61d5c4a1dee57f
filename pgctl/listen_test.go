package pgctl

import (
	"fmt"
	"testing"
)

func TestListening(t *testing.T) {
	for _, c := range []struct{ listen, want string }{
		{"", "[]"},
		{"*", "[0.0.0.0:5432]"},
		{"127.0.0.1,*", "[0.0.0.0:5432]"},
		{"0.0.0.0", "[0.0.0.0:5432]"},
		{"10.0.0.1, ::1", "[10.0.0.1:5432 [::1]:5432]"},
		{"localhost", "[127.0.0.1:5432 [::1]:5432]"},
		{"db1.example.org", "[]"},
	} {
		if got := fmt.Sprint(Config{Listen: c.listen, Port: 5432}.listening()); got != c.want {
			t.Errorf("listen_addresses %q: %s, want %s", c.listen, got, c.want)
		}
	}
}
