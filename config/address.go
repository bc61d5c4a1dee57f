package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

// The ports of addresses that name none.
const (
	clusterPort  = "7400"
	apiPort      = "8008"
	postgresPort = "5432"
)

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?$`)

// splitAddress takes HOST, HOST:PORT, :PORT and *:PORT apart, and HOST,HOST:PORT as well. As for Patroni, what follows the
// last colon is the port, and an IPv6 address need not be in brackets before it. No host is the same as *.
func splitAddress(text, port string) (hosts []string, p string, err error) {
	host := text
	if at := strings.LastIndexByte(text, ':'); at >= 0 && !strings.HasSuffix(text, "]") {
		host, port = text[:at], text[at+1:]
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return nil, "", fmt.Errorf("%q is not host:port: %q is no port from 1 to 65535", text, port)
	}
	if strings.HasPrefix(host, "[") && strings.IndexByte(host, ']') == len(host)-1 { // as net.JoinHostPort writes several
		host = host[1 : len(host)-1]
	}
	for _, h := range strings.Split(host, ",") {
		h = strings.TrimSpace(h)
		if strings.HasPrefix(h, "[") && strings.HasSuffix(h, "]") {
			h = h[1 : len(h)-1]
		}
		if h == "" {
			h = "*"
		}
		if _, err := netip.ParseAddr(h); err != nil && h != "*" && !hostName.MatchString(h) {
			return nil, "", fmt.Errorf("%q is not host:port: %q is neither an address nor a host name; "+
				"an IPv6 address stands in brackets, [::1]:%s", text, h, port)
		}
		hosts = append(hosts, h)
	}
	return hosts, port, nil
}

// wildcard tells whether nobody can dial the host.
func wildcard(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "" || host == "*" || err == nil && addr.IsUnspecified()
}

// loopback is for addresses only: what a name stands for is looked up elsewhere, and may change.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

// hostOf is the host of a normalised address.
func hostOf(addr string) string {
	host, _, _ := net.SplitHostPort(addr)
	return host
}

// listens normalises a pair of listen and connect_address. With many, listen may have several hosts: they become one, with
// commas, as Postgres's listen_addresses has them, and where there is only one * means all as well.
func (r *reader) listens(section, port string, listen, connect *string, many bool) {
	key := section + ".listen"
	if *listen == "" {
		r.bad(key, "it is missing: give host:port")
		return
	}
	hosts, port, err := splitAddress(*listen, port)
	if err == nil && len(hosts) > 1 && !many {
		err = fmt.Errorf("%q names %d addresses: give one, or * for all", *listen, len(hosts))
	}
	if err != nil {
		r.bad(key, "%s", err)
		return
	}
	given := *listen
	if hosts[0] == "*" && !many {
		hosts[0] = "" // as package net has it
	}
	*listen = net.JoinHostPort(strings.Join(hosts, ","), port)
	if *connect == "" {
		best := ""
		for _, h := range hosts {
			if !wildcard(h) && (best == "" || loopback(best)) {
				best = h
			}
		}
		if best == "" {
			r.bad(key, "%q is a wildcard: set %s.connect_address to the address other nodes dial", given, section)
			return
		}
		*connect = net.JoinHostPort(best, port)
		return
	}
	r.dialled(section+".connect_address", port, connect)
}

// dialled normalises an address that others dial.
func (r *reader) dialled(key, port string, addr *string) {
	hosts, port, err := splitAddress(*addr, port)
	if err == nil && (len(hosts) > 1 || wildcard(hosts[0])) {
		err = fmt.Errorf("%q can't be dialled: give one address of this node", *addr)
	}
	if err != nil {
		r.bad(key, "%s", err)
		return
	}
	*addr = net.JoinHostPort(hosts[0], port)
}
