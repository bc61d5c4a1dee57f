// Package crowd bounds the connections that anybody may open, by ending old ones. It must never turn a newcomer away: if it did,
// those who hold on to what there is could keep everybody else out.
package crowd

import (
	"net"
	"net/netip"
	"slices"
)

// Crowd is the connections that are open. Its methods are called under a lock of the caller.
type Crowd struct {
	limit, share int
	guests       []guest        // the oldest first
	perHost      map[string]int // how many of them
}

type guest struct {
	conn net.Conn
	host string
}

// New makes a Crowd of at most limit. Hosts with share or fewer are equal, so that who has a few at a time is not ended before
// those who come from many hosts with one each.
func New(limit, share int) *Crowd {
	return &Crowd{limit: limit, share: share, perHost: map[string]int{}}
}

// Enter takes conn in. When that is one too many, it gives the one that left for it, to be closed: the oldest of the host that has
// the most, and among equal hosts the oldest. So one host displaces its own, and who comes from many must open limit more
// before an honest one is done, which takes it milliseconds.
func (c *Crowd) Enter(conn net.Conn) (displaced net.Conn) {
	g := guest{conn, Host(conn.RemoteAddr())}
	c.guests = append(c.guests, g)
	c.perHost[g.host]++
	if len(c.guests) <= c.limit {
		return nil
	}
	out := c.guests[0]
	for _, g := range c.guests {
		if max(c.perHost[g.host], c.share) > max(c.perHost[out.host], c.share) {
			out = g
		}
	}
	c.Leave(out.conn)
	return out.conn
}

// Leave forgets conn, also one that left before.
func (c *Crowd) Leave(conn net.Conn) {
	i := slices.IndexFunc(c.guests, func(g guest) bool { return g.conn == conn })
	if i < 0 {
		return
	}
	host := c.guests[i].host
	c.guests = slices.Delete(c.guests, i, i+1)
	if c.perHost[host]--; c.perHost[host] == 0 {
		delete(c.perHost, host)
	}
}

// Len is how many there are.
func (c *Crowd) Len() int { return len(c.guests) }

// Conns are all that are there.
func (c *Crowd) Conns() (out []net.Conn) {
	for _, g := range c.guests {
		out = append(out, g.conn)
	}
	return out
}

// Host is whom an address belongs to: an IPv4 address, or the /64 of an IPv6 one, of which one host has as many as it likes.
func Host(addr net.Addr) string {
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return host
	}
	if ip = ip.Unmap(); ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip.WithZone(""), 64).Masked().String()
}
