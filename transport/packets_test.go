package transport

import (
	"errors"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// receive waits for one packet, in virtual or real time.
func receive(t *testing.T, p PacketConn) string {
	t.Helper()
	got := make(chan string, 1)
	go func() {
		b := make([]byte, MaxPacket)
		n, _, _ := p.ReadPacket(b)
		got <- string(b[:n])
	}()
	select {
	case s := <-got:
		return s
	case <-time.After(10 * time.Second):
		_ = p.Close()
		<-got
		return ""
	}
}

// listenPackets starts a Mux on this machine, on a port whose number is free for UDP as well: the kernel chooses one for TCP only.
func listenPackets(t *testing.T, creds *Credentials) (*Mux, PacketConn) {
	t.Helper()
	var err error
	for range 20 {
		m := startMux(t, TCP(0), "127.0.0.1:0", creds, nil)
		var p PacketConn
		if p, err = m.ListenPacket(); err == nil {
			return m, p
		}
	}
	t.Fatalf("somebody has all UDP ports with the numbers that were tried: %v", err)
	return nil, nil
}

// Packets go over the number of the TCP port, both ways, and end with the socket.
func TestPacketsUseThePortsNumber(t *testing.T) {
	creds := testCredentials(t, "demo", "c1", "n1", testSecret(t, 1))
	_, pa := listenPackets(t, creds)
	defer pa.Close()
	b, pb := listenPackets(t, creds)
	_, port, err := net.SplitHostPort(b.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"127.0.0.1", "localhost"} {
		if err := pa.WritePacket([]byte("to "+host), host+":"+port); err != nil {
			t.Fatal(err)
		}
		if got := receive(t, pb); got != "to "+host {
			t.Fatalf("got %q", got)
		}
	}
	_ = pb.Close()
	if _, _, err := pb.ReadPacket(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("read after close: %v", err)
	}
}

func TestPacketsWithoutASecretStayHere(t *testing.T) {
	_, p := listenPackets(t, mustInsecure(t))
	defer p.Close()
	if err := p.WritePacket([]byte("x"), "192.0.2.1:7400"); !errors.Is(err, ErrNeedsSecret) {
		t.Errorf("to another machine: %v", err)
	}
}

// A packet that meets a cut link, a full reader or nobody is lost, and nobody waits for it.
func TestMemoryPacketsAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewMemory()
		open := func(host string) PacketConn {
			p, err := n.Host(host).ListenPacket(host + ":1")
			if err != nil {
				t.Fatal(err)
			}
			return p
		}
		a, b := open("a"), open("b")
		defer a.Close()
		send := func(text, to string) {
			t.Helper()
			if err := a.WritePacket([]byte(text), to); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := n.Host("b").ListenPacket(":1"); err == nil {
			t.Error("one port was opened twice")
		}
		send("nobody is there", "b:2")
		n.CutOneWay("a", "b")
		send("cut", "b:1")
		n.Heal("a", "b")
		for range 2 * memoryPackets {
			send("kept", "b:1")
		}
		for range memoryPackets {
			if got := receive(t, b); got != "kept" {
				t.Fatalf("got %q", got)
			}
		}
		send("after", "b:1")
		if got := receive(t, b); got != "after" {
			t.Fatalf("got %q", got)
		}
		n.Kill("b")
		if _, _, err := b.ReadPacket(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("read on a killed host: %v", err)
		}
		again := open("b")
		defer again.Close()
		if err := a.WritePacket(nil, "nowhere:1"); err == nil || !strings.Contains(err.Error(), "no such host") {
			t.Errorf("to a host that does not exist: %v", err)
		}
	})
}
