package api

import (
	"bufio"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// dialFrom opens a connection to addr from another address of this machine.
func dialFrom(t *testing.T, host, addr string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}}
	c, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestConnectionsAreBounded: one host gets its share and no more, others are served meanwhile, and what ended makes room.
func TestConnectionsAreBounded(t *testing.T) {
	srv := server(three(t, "n1"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(l) }()
	defer func() {
		if err := errors.Join(srv.Close(), <-ended); err != nil {
			t.Error(err)
		}
	}()
	served := func(c net.Conn) bool {
		_, _ = io.WriteString(c, "GET /primary HTTP/1.1\r\nHost: x\r\n\r\n")
		line, err := bufio.NewReader(c).ReadString('\n')
		return err == nil && line == "HTTP/1.1 200 OK\r\n"
	}
	var held []net.Conn
	for range maxConnsHost {
		c := dialFrom(t, "127.0.0.66", l.Addr().String())
		if !served(c) {
			t.Fatalf("connection %d is not served, %d may be", len(held)+1, maxConnsHost)
		}
		held = append(held, c)
	}
	if served(dialFrom(t, "127.0.0.66", l.Addr().String())) {
		t.Errorf("more than %d connections of one host are served", maxConnsHost)
	}
	if !served(dialFrom(t, "127.0.0.67", l.Addr().String())) {
		t.Error("another host is not served")
	}
	for _, c := range held {
		_ = c.Close()
	}
	for end := time.Now().Add(30 * time.Second); !served(dialFrom(t, "127.0.0.66", l.Addr().String())); { // it has to notice first
		if time.Now().After(end) {
			t.Fatal("there is no room again")
		}
	}
}
