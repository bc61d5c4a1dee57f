package transport

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
)

// TestStrangersCostLittle: with an own PKI anybody with a certificate gets as far as calls, under any id that he likes. They have
// few connections, short calls and little time, and cost members nothing.
func TestStrangersCostLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net, office := NewMemory(), newOffice(t, "ours")
		open := func(id, name, clusterID string) *Mux {
			creds, err := NewOwnCredentials("demo", name, id, office.year(name))
			if err == nil && clusterID != NewCluster {
				err = creds.SetIdentity(clusterID, id)
			}
			if err != nil {
				t.Fatal(err)
			}
			return startMux(t, net.Host(id), id+":7400", creds, nil)
		}
		server := open("id1", "n1", "c1")
		server.cfg.NameOf = func(id string) (string, bool) { return "n2", id == "id2" }
		rpc := NewRPC(server, hclog.NewNullLogger())
		t.Cleanup(func() { _ = rpc.Close() })
		rpc.HandleRPC("echo", func(_ context.Context, _ Peer, req []byte) ([]byte, error) { return req, nil })
		strangers := func() int { rpc.mu.Lock(); defer rpc.mu.Unlock(); return len(rpc.strangers) }

		big := make([]byte, maxStrangerFrame)
		member := NewRPC(open("id2", "n2", "c1"), hclog.NewNullLogger())
		t.Cleanup(func() { _ = member.Close() })
		if _, err := member.Call(t.Context(), "id1:7400", "echo", big); err != nil || strangers() != 0 {
			t.Fatalf("a member's long call: %v; %d strangers", err, strangers())
		}
		for from, m := range map[string]*Mux{"a node that has not joined": open("id3", "n3", NewCluster), "who claims the cluster": open("id4", "n4", "c1")} {
			var all []*Conn
			for range 2 * maxStrangers {
				c, err := m.Dial(t.Context(), ProtoRPC, "id1:7400")
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, c)
			}
			time.Sleep(time.Second)
			if n := strangers(); n != maxStrangers {
				t.Errorf("%s has %d connections, want %d", from, n, maxStrangers)
			}
			if _, err := all[0].Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: the oldest connection stands", from)
			}
			last := all[len(all)-1]
			req, err := request{name: "echo", body: []byte("hi")}.encode()
			if err == nil {
				err = writeFrame(last, req)
			}
			if answer, errRead := readFrame(last, MaxRPC); errors.Join(err, errRead) != nil || !bytes.Equal(answer, append([]byte{answerResult}, "hi"...)) {
				t.Errorf("%s: the newest gets %q, %v, %v", from, answer, err, errRead)
			}
			if req, err = (request{name: "echo", body: big}).encode(); err == nil {
				_ = writeFrame(last, req)
			}
			if _, err := readFrame(last, MaxRPC); !errors.Is(err, io.EOF) {
				t.Errorf("%s: a long call is answered by %v", from, err)
			}
			time.Sleep(strangerIdle)
			if n := strangers(); n != 0 {
				t.Errorf("%s says nothing for %s and has %d connections", from, strangerIdle, n)
			}
		}
		if n := member.idleTo("id1:7400"); n != 1 {
			t.Errorf("the member has %d standing connections, want 1", n)
		}
	})
}
