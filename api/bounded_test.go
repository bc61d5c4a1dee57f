package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
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

// TestConnectionsAreBounded: hosts that hold on to what there is make room for others, not the others for them.
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
		_, _ = io.WriteString(c, "HEAD /primary HTTP/1.1\r\nHost: x\r\n\r\n")
		answer := make([]byte, 4096)
		n, err := c.Read(answer)
		return err == nil && strings.HasPrefix(string(answer[:n]), "HTTP/1.1 200 OK\r\n")
	}
	standing := dialFrom(t, "127.0.0.65", l.Addr().String())
	if !served(standing) {
		t.Fatal("the first connection is not served")
	}
	var held []net.Conn
	for i := range maxConns {
		c := dialFrom(t, fmt.Sprintf("127.0.0.%d", 66+i%4), l.Addr().String())
		if !served(c) {
			t.Fatalf("connection %d is not served", i+2)
		}
		held = append(held, c)
	}
	for i := range 8 {
		if !served(dialFrom(t, fmt.Sprintf("127.0.0.%d", 80+i), l.Addr().String())) {
			t.Error("another host is not served")
		}
	}
	if !served(standing) {
		t.Error("who has one connection lost it to those who have many")
	}
	for _, c := range held[:9] { // one for each that came when there were maxConns
		_ = c.SetReadDeadline(time.Now().Add(idleTimeout / 2)) // then the server ends it anyway
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("more than %d connections are open: %v", maxConns, err)
		}
	}
	if !served(held[len(held)-1]) {
		t.Error("more were ended than came")
	}
}
