package pgctl

import (
	"net/netip"
	"strings"
)

// listening is where clients connect to, as far as listen_addresses says it by address: the guard, which refuses new
// connections to a frozen server, looks up no names.
func (c Config) listening() []netip.AddrPort {
	var out []netip.AddrPort
	add := func(a netip.Addr) { out = append(out, netip.AddrPortFrom(a, uint16(c.Port))) }
	for _, host := range strings.Split(c.Listen, ",") {
		switch host = strings.TrimSpace(host); host {
		case "*":
			return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(c.Port))}
		case "localhost":
			add(netip.AddrFrom4([4]byte{127, 0, 0, 1}))
			add(netip.IPv6Loopback())
		default:
			if a, err := netip.ParseAddr(host); err == nil {
				add(a.WithZone(""))
			}
		}
	}
	return out
}
