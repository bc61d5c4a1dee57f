package crowd

import (
	"net"
	"testing"
)

type conn struct {
	net.Conn
	from addr
}

func (c *conn) RemoteAddr() net.Addr { return c.from }

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

func TestWhoIsOneHost(t *testing.T) {
	for _, c := range []struct{ from, host string }{
		{"192.0.2.1:5432", "192.0.2.1"},
		{"[::ffff:192.0.2.1]:5432", "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:5432", "2001:db8:1:2::/64"},
		{"[2001:db8:1:2:ffff::1]:5432", "2001:db8:1:2::/64"},
		{"[2001:db8:1:3::1]:5432", "2001:db8:1:3::/64"},
		{"[fe80::1%eth0]:5432", "fe80::/64"},
		{"n1:7400", "n1"},
		{"@", "@"},
	} {
		if got := Host(addr(c.from)); got != c.host {
			t.Errorf("%s is of %s, want %s", c.from, got, c.host)
		}
	}
}

// TestWhoLeavesForANewcomer: letters are hosts, in the order in which they come to a Crowd of 6 whose hosts may have 2.
func TestWhoLeavesForANewcomer(t *testing.T) {
	for _, c := range []struct{ what, come, leave string }{
		{"there is room", "abcdef", ""},
		{"one host displaces its own", "baaaaaaaaa", "aaaa"},
		{"the one with the most goes first", "baaaccb", "a"},
		{"who has few at a time is equal to who has one, and the oldest goes", "bcaadeef", "bc"},
		{"many hosts displace their own oldest before a newcomer", "abcdefxghijk", "abcdef"},
		{"who came before all of them", "xabcdef", "x"},
	} {
		crowd, left := New(6, 2), ""
		var last net.Conn
		for _, host := range c.come {
			last = &conn{from: addr(string(host) + ":1")}
			if out := crowd.Enter(last); out != nil {
				left += Host(out.RemoteAddr())
				crowd.Leave(out) // its owner does so too
			}
			if out := crowd.Conns(); len(out) > 6 || len(out) != crowd.Len() || out[len(out)-1] != last {
				t.Errorf("%s: %d are there", c.what, len(out))
			}
		}
		if left != c.leave {
			t.Errorf("%s: %q left, want %q", c.what, left, c.leave)
		}
		for _, conn := range crowd.Conns() {
			crowd.Leave(conn)
		}
		if crowd.Len() > 0 || len(crowd.perHost) > 0 {
			t.Errorf("%s: %d are left, hosts %v", c.what, crowd.Len(), crowd.perHost)
		}
	}
}
