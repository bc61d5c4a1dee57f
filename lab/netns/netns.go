// Package netns makes the network of a lab: a hub namespace with a bridge, one namespace per host on it, each host with
// one address. It also starts processes inside and cuts hosts off, by link or by packet filter.
//
// It must never leave anything in the namespace of the machine itself, not even one end of a cable, and must never touch
// a namespace that it was not told the name of.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// dir is where iproute2 keeps the named namespaces.
const dir = "/run/netns"

// table is the name of the packet filter table that Cut makes.
const table = "quorate_lab"

// Host is one namespace on the bridge.
type Host struct {
	Name string // namespace
	Port string // name of its end of the cable in the hub, at most 15 bytes
	Addr string // IPv4 address; the network is its /24
}

// Check says which of the programs and rights that this package needs are missing.
func Check() error {
	if os.Getuid() != 0 {
		return errors.New("network namespaces need root")
	}
	for _, p := range []struct{ program, from string }{{"ip", "iproute2"}, {"nft", "nftables"}} {
		if _, err := exec.LookPath(p.program); err != nil {
			return fmt.Errorf("the program %s is missing: apt-get install %s", p.program, p.from)
		}
	}
	return nil
}

// MakeHub makes the namespace hub with a bridge in it.
func MakeHub(ctx context.Context, hub string) error {
	if err := ip(ctx, "", "netns add "+hub); err != nil {
		return fmt.Errorf("make namespace %s: %w", hub, err)
	}
	err := ip(ctx, hub, "link set lo up", "link add br0 type bridge forward_delay 0 stp_state 0", "link set br0 up")
	if err != nil {
		return fmt.Errorf("make the bridge in %s: %w", hub, err)
	}
	return nil
}

// MakeHost makes a namespace and plugs it into hub's bridge. Both ends of the cable are born inside namespaces.
func MakeHost(ctx context.Context, hub string, h Host) error {
	if err := ip(ctx, "", "netns add "+h.Name); err != nil {
		return fmt.Errorf("make namespace %s: %w", h.Name, err)
	}
	err := ip(ctx, h.Name, "link set lo up", "link add eth0 type veth peer name "+h.Port+" netns "+hub,
		"addr add "+h.Addr+"/24 dev eth0", "link set eth0 up")
	if err != nil {
		return fmt.Errorf("give %s its address: %w", h.Name, err)
	}
	if err := ip(ctx, hub, "link set dev "+h.Port+" master br0 up"); err != nil {
		return fmt.Errorf("plug %s in: %w", h.Name, err)
	}
	return nil
}

// Readdress gives the host in the namespace another address instead of its own.
func Readdress(ctx context.Context, name, old, addr string) error {
	if err := ip(ctx, name, "addr del "+old+"/24 dev eth0", "addr add "+addr+"/24 dev eth0"); err != nil {
		return fmt.Errorf("give %s the address %s: %w", name, addr, err)
	}
	return nil
}

// Unplug takes the carrier from the hosts with these ports. It runs no program, so that the hosts vanish in the same
// instant, and when the caller says.
func Unplug(hub string, ports ...string) error { return setUp(hub, false, ports) }

// Plug undoes Unplug. Plugging in what is plugged in changes nothing.
func Plug(hub string, ports ...string) error { return setUp(hub, true, ports) }

func setUp(hub string, up bool, ports []string) error {
	return inside(hub, func() error {
		s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open a socket in %s: %w", hub, err)
		}
		defer func() { _ = unix.Close(s) }()
		for _, p := range ports {
			r, err := unix.NewIfreq(p)
			if err != nil {
				return fmt.Errorf("port %q: %w", p, err)
			}
			if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, r); err != nil {
				return fmt.Errorf("look at port %s in %s: %w", p, hub, err)
			}
			flags := r.Uint16() &^ unix.IFF_UP
			if up {
				flags |= unix.IFF_UP
			}
			r.SetUint16(flags)
			if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, r); err != nil {
				return fmt.Errorf("set port %s in %s: %w", p, hub, err)
			}
		}
		return nil
	})
}

// Cut drops all packets between the namespace and peers, in both directions and on established connections too.
func Cut(ctx context.Context, name string, peers []string) error {
	set := "{ " + strings.Join(peers, ", ") + " }"
	cut := "table inet " + table + " {\n" +
		"chain in { type filter hook input priority -300; ip saddr " + set + " drop; }\n" +
		"chain out { type filter hook output priority -300; ip daddr " + set + " drop; }\n}\n"
	if err := filter(ctx, name, cut); err != nil {
		return fmt.Errorf("cut %s off from %v: %w", name, peers, err)
	}
	return nil
}

// Deny is what a host drops of what comes from others: all, or what goes to one of its own ports, over TCP and UDP, and
// answers from that port of theirs. With Loss, which is less than 100, only that many packets of a hundred, chosen at random.
type Deny struct {
	From []string
	Port string
	Loss int
}

// Filter makes the host in the namespace drop these and nothing else, instead of what it dropped before, on established
// connections too.
func Filter(ctx context.Context, name string, denies []Deny) error {
	if err := filter(ctx, name, rules(denies)); err != nil {
		return fmt.Errorf("have %s drop %v: %w", name, denies, err)
	}
	return nil
}

// rules replaces the table in one transaction. Adding it first makes deleting it succeed in any case.
func rules(denies []Deny) string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s\ndelete table inet %s\n", table, table)
	if len(denies) == 0 {
		return b.String()
	}
	fmt.Fprintf(&b, "table inet %s {\nchain in { type filter hook input priority -300;\n", table)
	for _, d := range denies {
		from, drop := "ip saddr { "+strings.Join(d.From, ", ")+" }", "drop"
		if d.Loss > 0 {
			drop = fmt.Sprintf("numgen random mod 100 < %d drop", d.Loss)
		}
		if d.Port == "" {
			fmt.Fprintf(&b, "%s %s;\n", from, drop)
			continue
		}
		for _, side := range []string{"dport", "sport"} {
			fmt.Fprintf(&b, "%s meta l4proto { tcp, udp } th %s %s %s;\n", from, side, d.Port, drop)
		}
	}
	b.WriteString("}\n}\n")
	return b.String()
}

// Mend undoes Cut and Filter. Mending what is not cut changes nothing.
func Mend(ctx context.Context, name string) error {
	if err := filter(ctx, name, rules(nil)); err != nil {
		return fmt.Errorf("mend %s: %w", name, err)
	}
	return nil
}

// Remove removes a namespace and the cable in it. One that is not there is removed already.
func Remove(ctx context.Context, name string) error {
	if _, err := os.Lstat(filepath.Join(dir, name)); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := ip(ctx, "", "netns del "+name); err != nil {
		return fmt.Errorf("remove namespace %s: %w", name, err)
	}
	return nil
}

// List returns the named namespaces that begin with prefix, sorted.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Start starts cmd with the network of the namespace and with everything else as it is here: `ip netns exec` would give
// it a /sys without the cgroups.
func Start(name string, cmd *exec.Cmd) error {
	if err := inside(name, cmd.Start); err != nil {
		return fmt.Errorf("start %s in namespace %s: %w", cmd.Path, name, err)
	}
	return nil
}

// inside calls f on a thread that is in the namespace for as long as that takes.
func inside(name string, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- onThread(name, f) }()
	return <-done
}

// onThread locks its goroutine to a thread, and leaves it locked when the thread can't get back: it then ends with the
// goroutine and runs nothing else.
func onThread(name string, f func() error) error {
	runtime.LockOSThread()
	here, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the present namespace: %w", err)
	}
	defer func() { _ = here.Close() }()
	there, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open namespace %s: %w", name, err)
	}
	defer func() { _ = there.Close() }()
	if err := unix.Setns(int(there.Fd()), unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter namespace %s: %w", name, err)
	}
	err = f()
	if back := unix.Setns(int(here.Fd()), unix.CLONE_NEWNET); back == nil {
		runtime.UnlockOSThread()
	}
	return err
}

// filter has nft read the rules in the namespace.
func filter(ctx context.Context, name, rules string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(rules), &out, &out
	if err := Start(name, cmd); err != nil {
		return err
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// ip runs the lines as one batch of the ip program, in the namespace, or on the machine if that is "".
func ip(ctx context.Context, name string, lines ...string) error {
	args := []string{"-batch", "-"}
	if name != "" {
		args = append([]string{"-n", name}, args...)
	}
	return run(ctx, strings.Join(lines, "\n")+"\n", "ip", args...)
}

// run runs a program; its error has what the program said and what it was told.
func run(ctx context.Context, input, program string, args ...string) error {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s (given: %s)", program, strings.Join(args, " "), err,
			bytes.TrimSpace(out), strings.ReplaceAll(strings.TrimSpace(input), "\n", "; "))
	}
	return nil
}
