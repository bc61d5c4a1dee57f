package netns_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/quorate/quorate/lab/netns"
)

// network makes two hosts on one bridge and removes them.
func network(t *testing.T) (hub string, a, b netns.Host) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("network namespaces need root")
	}
	prefix := fmt.Sprintf("qt%d-", os.Getpid())
	hub, a, b = prefix+"hub", netns.Host{Name: prefix + "a", Port: "a", Addr: "10.254.7.11"}, netns.Host{Name: prefix + "b", Port: "b", Addr: "10.254.7.12"}
	remove := func() {
		names, err := netns.List(prefix)
		if err != nil {
			t.Error(err)
		}
		for _, n := range names {
			if err := netns.Remove(context.Background(), n); err != nil {
				t.Error(err)
			}
		}
	}
	t.Cleanup(remove)
	before := links(t)
	ctx := t.Context()
	if err := netns.MakeHub(ctx, hub); err != nil {
		t.Fatal(err)
	}
	for _, h := range []netns.Host{a, b} {
		if err := netns.MakeHost(ctx, hub, h); err != nil {
			t.Fatal(err)
		}
	}
	if after := links(t); after != before {
		t.Fatalf("interfaces of the machine were\n%s\nand are\n%s", before, after)
	}
	return hub, a, b
}

func links(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, i := range all {
		names = append(names, i.Name)
	}
	return strings.Join(names, " ")
}

// reaches says whether a packet from a comes back from b.
func reaches(t *testing.T, a, b netns.Host) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "-c", "exec 3<>/dev/tcp/"+b.Addr+"/9")
	var out strings.Builder
	cmd.Stderr = &out
	cmd.WaitDelay = time.Second
	if err := netns.Start(a.Name, cmd); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(500*time.Millisecond, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	_ = cmd.Wait()
	return strings.Contains(out.String(), "refused")
}

func TestCutAndPlug(t *testing.T) {
	hub, a, b := network(t)
	ctx := t.Context()
	check := func(when string, want bool) {
		t.Helper()
		got := reaches(t, a, b)
		for tries := 0; want && !got && tries < 20; tries++ {
			// The kernel may still remember that nobody answered for that address.
			got = reaches(t, a, b)
		}
		if got != want {
			t.Fatalf("%s: a reaches b: %v, want %v", when, got, want)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check("at first", true)
	do(netns.Mend(ctx, b.Name))
	do(netns.Cut(ctx, b.Name, []string{a.Addr}))
	check("cut", false)
	do(netns.Mend(ctx, b.Name))
	check("mended", true)
	do(netns.Cut(ctx, b.Name, []string{"10.254.7.99"}))
	check("cut from others", true)
	do(netns.Unplug(hub, b.Port))
	check("unplugged", false)
	do(netns.Plug(hub, b.Port))
	do(netns.Plug(hub, b.Port))
	check("plugged", true)
	moved := b
	moved.Addr = "10.254.7.13"
	do(netns.Readdress(ctx, b.Name, b.Addr, moved.Addr))
	check("at its old address", false)
	b = moved
	check("at its new address", true)
}

// TestFilter: packets of one direction are dropped, or those of a port; another filter takes the place of the one before.
func TestFilter(t *testing.T) {
	_, a, b := network(t)
	ctx := t.Context()
	for _, c := range []struct {
		name   string
		at     netns.Host
		denies []netns.Deny
		want   bool
	}{
		{"nothing", b, nil, true},
		{"b drops what comes from a", b, []netns.Deny{{From: []string{a.Addr}}}, false},
		{"b drops what comes from others", b, []netns.Deny{{From: []string{"10.254.7.98", "10.254.7.99"}}}, true},
		{"b drops what comes from a to the port", b, []netns.Deny{{From: []string{a.Addr}, Port: "9"}}, false},
		{"b drops what comes from a to another port", b, []netns.Deny{{From: []string{a.Addr}, Port: "10"}}, true},
		{"nothing again", b, nil, true},
		{"b loses packets from others", b, []netns.Deny{{From: []string{"10.254.7.99"}, Loss: 99}}, true},
		{"b loses nothing", b, nil, true},
		{"a drops the answer", a, []netns.Deny{{From: []string{b.Addr}}}, false},
		{"a drops the answer from the port", a, []netns.Deny{{From: []string{"10.254.7.99"}}, {From: []string{b.Addr}, Port: "9"}}, false},
	} {
		if err := netns.Filter(ctx, c.at.Name, c.denies); err != nil {
			t.Fatal(err)
		}
		if got := reaches(t, a, b); got != c.want {
			t.Errorf("%s: a reaches b: %v, want %v", c.name, got, c.want)
		}
	}
	if err := netns.Mend(ctx, a.Name); err != nil {
		t.Fatal(err)
	}
	if !reaches(t, a, b) {
		t.Error("mended: a does not reach b")
	}
}

// TestLoss: of many packets some arrive and some don't.
func TestLoss(t *testing.T) {
	_, a, b := network(t)
	if err := netns.Filter(t.Context(), b.Name, []netns.Deny{{From: []string{a.Addr}, Loss: 50}}); err != nil {
		t.Fatal(err)
	}
	arrived := map[bool]int{}
	for tries := 0; tries < 40 && len(arrived) < 2; tries++ {
		arrived[reaches(t, a, b)]++
	}
	if len(arrived) < 2 {
		t.Errorf("with half of the packets lost, arrived or not: %v", arrived)
	}
}

func TestStartComesBack(t *testing.T) {
	_, a, _ := network(t)
	before := links(t)
	var out strings.Builder
	cmd := exec.Command("ip", "-o", "-4", "addr")
	cmd.Stdout = &out
	if err := netns.Start(a.Name, cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), a.Addr) {
		t.Fatalf("the process saw %q", out.String())
	}
	if links(t) != before {
		t.Fatal("this process has changed its namespace")
	}
	if err := netns.Start("no-such-namespace", exec.Command("true")); err == nil {
		t.Fatal("started in a namespace that does not exist")
	}
}
