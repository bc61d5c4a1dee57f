package lab

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/api/client"
	"github.com/quorate/quorate/config"
	"github.com/quorate/quorate/lab/netns"
)

// The limits of waiting: for a cluster to come into being, which clones its data, and to be whole after a fault.
const (
	upLimit   = 90 * time.Second
	healLimit = 30 * time.Second
)

// maxNodes is how many voters a cluster may have.
const maxNodes = 7

// Options say what lab to make. The zero value is one of three nodes that a person takes down.
type Options struct {
	Nodes      int           // with a Postgres; 0: three
	Witnesses  int           // nodes without one beside them, which vote
	Durability string        // "": quorum
	Failover   time.Duration // failover_after; 0: one second
	Disks      bool          // each Postgres has a file system of its own, so that it can hang and be full; needs root
	StateDisks bool          // instead, what each daemon keeps has one
	Clocks     bool          // what each Postgres takes for the wall clock can be set; needs libfaketime
	Owned      bool          // it ends with this process: whoever comes next sweeps it
	Signals    bool          // fence by signals though control groups could be used
	Exe        string        // the quorate program; "": this one
	Out        io.Writer
	// Waiting makes node files without peers and without a secret, so that every node waits to be told to init or to join. Up
	// returns when they do. Whoever tells them says who is no longer Outside, and calls MakeTables for what takes load.
	Waiting bool
	// Prepare is called when all files are there and no daemon runs yet, to give nodes data; nil: they have none.
	Prepare func(*Lab) error
}

// Up makes a lab and returns it when the cluster is whole: all nodes stream and all are in the synchronous set. First it
// sweeps what dead labs left. On an error nothing is left, and the error has the last state and log of every node.
func Up(ctx context.Context, o Options) (*Lab, error) {
	if o.Out == nil {
		o.Out = io.Discard
	}
	if err := Sweep(ctx, o.Out); err != nil {
		return nil, err
	}
	l, err := create(o)
	if err != nil {
		return nil, err
	}
	err = l.bringUp(ctx, o.Prepare)
	if err == nil && !o.Owned {
		l.Owner = nil
		err = l.save()
	}
	if err != nil {
		clean, stop := context.WithTimeout(context.WithoutCancel(ctx), healLimit)
		defer stop()
		return nil, errors.Join(err, l.Down(clean))
	}
	return l, nil
}

func (l *Lab) bringUp(ctx context.Context, prepare func(*Lab) error) error {
	ctx, stop := context.WithTimeout(ctx, upLimit)
	defer stop()
	began := time.Now()
	l.say("lab %s: %s in %s", l.ID, l.size(), l.dir)
	if err := l.makeNetwork(ctx); err != nil {
		return err
	}
	if err := l.writeFiles(ctx); err != nil {
		return err
	}
	if prepare != nil {
		if err := prepare(l); err != nil {
			return fmt.Errorf("prepare the nodes: %w", err)
		}
	}
	for _, n := range l.Nodes {
		if err := l.start(n); err != nil {
			return err
		}
	}
	if l.Waiting {
		return l.awaitWaiting(ctx)
	}
	l.say("  %d daemons run; the first of them initialises Postgres and the others clone it", len(l.Nodes))
	if err := l.MakeTables(ctx); err != nil {
		return err
	}
	l.say("  healthy after %.1f s", time.Since(began).Seconds())
	return nil
}

// awaitWaiting waits until every daemon answers, which belongs to no cluster and so waits for orders.
func (l *Lab) awaitWaiting(ctx context.Context) error {
	for _, n := range l.Nodes {
		err := until(ctx, "the daemon of "+n.Name+" waits to be told", func() (bool, error) {
			_, err := client.Unix(n.Socket()).Status(ctx)
			return err == nil, err
		})
		if err != nil {
			return fmt.Errorf("%w\n%s", err, l.Report())
		}
	}
	l.say("  %d daemons run and wait for quorate init or quorate join", len(l.Nodes))
	return nil
}

// size says how many nodes there are, in words.
func (l *Lab) size() string {
	data := len(l.data())
	switch witnesses := len(l.Nodes) - data; witnesses {
	case 0:
		return fmt.Sprintf("%d nodes", data)
	case 1:
		return fmt.Sprintf("%d data nodes and a witness", data)
	default:
		return fmt.Sprintf("%d data nodes and %d witnesses", data, witnesses)
	}
}

// Introduce says what there is and what to try next.
func (l *Lab) Introduce() {
	inside := ""
	if l.Namespaces {
		inside = "ip netns exec " + l.client() + " "
	}
	l.say("\nWrite to it, whoever is primary:\n  %spsql '%s'", inside, l.URI())
	l.say("\nNode files and logs:")
	for _, n := range l.Nodes {
		l.say("  %s  %s", n.Config(), n.Log())
	}
	l.say("\nTry next:")
	for _, t := range [][2]string{
		{"quorate status -c " + l.Nodes[0].Config(), "who is primary, and what may be lost"},
		{"quorate lab fault " + l.faults()[0], "break something and see what happens, step by step"},
		{"quorate lab fault --list", "what else can be broken"},
		{"quorate lab heal", "undo that and wait until all is well"},
		{"quorate lab bench --fault " + l.faults()[0] + " --runs 3", "measure it"},
		{"quorate lab down", "remove it all"},
	} {
		l.say("  %-50s %s", t[0], t[1])
	}
	if !l.Namespaces {
		l.say("  (without root these can't be made: %s)", strings.Join(l.impossible(), ", "))
	}
}

// create makes the lab's directory with its record, and nothing else.
func create(o Options) (*Lab, error) {
	if o.Nodes == 0 {
		o.Nodes = 3
	}
	if o.Nodes < 1 || o.Witnesses < 0 || o.Nodes+o.Witnesses > maxNodes {
		return nil, fmt.Errorf("--data %d --witness %d: a lab has 1 to %d nodes, one of them with data", o.Nodes, o.Witnesses, maxNodes)
	}
	if o.Durability == "" {
		o.Durability = "quorum"
	}
	if o.Failover == 0 {
		o.Failover = time.Second
	}
	if o.Exe == "" {
		exe, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find the quorate program: %w", err)
		}
		o.Exe = exe
	}
	able := Able()
	if able != nil && os.Getuid() == 0 {
		return nil, able // root is told what to install instead of getting half a lab
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	if (o.Disks || o.StateDisks) && able != nil {
		return nil, fmt.Errorf("--disks: mounting a file system needs root: %w", able)
	}
	l := &Lab{
		Boot: boot, Namespaces: able == nil, Exe: o.Exe, Durability: o.Durability, Signals: o.Signals, Disks: o.Disks, StateDisks: o.StateDisks, Clocks: o.Clocks,
		Waiting: o.Waiting, Failover: o.Failover.String(), Password: strings.ToLower(rand.Text()), out: o.Out,
	}
	// Until it is whole every lab is this process's: nobody wants to keep half a one.
	me, err := owner(os.Getpid())
	if err != nil {
		return nil, err
	}
	l.Owner = &me
	if err := l.makeDir(); err != nil {
		return nil, err
	}
	if err := l.place(o.Nodes, o.Witnesses); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.dir))
	}
	if err := l.save(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(l.dir))
	}
	return l, nil
}

// makeDir gives the lab its id: four characters for which there is no directory yet.
func (l *Lab) makeDir() error {
	for {
		l.ID = strings.ToLower(rand.Text()[:4])
		l.dir = prefix() + l.ID
		err := os.Mkdir(l.dir, 0o755)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("make the lab's directory: %w", err)
		}
		return os.Chmod(l.dir, 0o755) // whatever the umask: Postgres's user must get through
	}
}

// place gives every node its name and addresses.
func (l *Lab) place(data, witnesses int) error {
	h := fnv.New32a()
	_, _ = h.Write([]byte(l.ID))
	l.Net = fmt.Sprintf("10.%d.%d", 1+h.Sum32()%250, h.Sum32()/256%256)
	for i := 1; i <= data+witnesses; i++ {
		name := "n" + strconv.Itoa(i)
		if i > data {
			name = "w" + strconv.Itoa(i-data)
		}
		n := &Node{Name: name, Dir: filepath.Join(l.dir, name), Witness: i > data, Disk: l.Disks && i <= data, State: l.StateDisks, Outside: l.Waiting}
		if l.Namespaces {
			n.live(fmt.Sprintf("%s.%d", l.Net, 10+i))
		} else {
			n.Addr = "127.0.0.1"
			free, err := freePorts(3)
			if err != nil {
				return err
			}
			n.Cluster, n.API, n.Postgres = free[0], free[1], free[2]
		}
		l.Nodes = append(l.Nodes, n)
	}
	return nil
}

// live gives the node an address of its own, where it has the fixed ports.
func (n *Node) live(addr string) {
	n.Addr, n.Cluster, n.API, n.Postgres = addr, addr+":"+clusterPort, addr+":"+apiPort, addr+":"+postgresPort
}

// freePorts returns addresses on loopback that nobody listens on right now.
func freePorts(count int) ([]string, error) {
	var addrs []string
	for range count {
		s, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = s.Close() }()
		addrs = append(addrs, s.Addr().String())
	}
	return addrs, nil
}

func (l *Lab) makeNetwork(ctx context.Context) error {
	if !l.Namespaces {
		l.say("  without root: everything on 127.0.0.1, and these faults can't be made: %s", strings.Join(l.impossible(), ", "))
		return nil
	}
	if err := netns.MakeHub(ctx, l.hub()); err != nil {
		return err
	}
	hosts := []netns.Host{{Name: l.client(), Port: "client", Addr: l.Net + ".10"}}
	for _, n := range l.Nodes {
		hosts = append(hosts, netns.Host{Name: l.namespace(n), Port: n.Name, Addr: n.Addr})
	}
	for _, h := range hosts {
		if err := netns.MakeHost(ctx, l.hub(), h); err != nil {
			return err
		}
	}
	l.say("  network: %s.0/24, a namespace for each node (%s ...) and one for clients (%s)", l.Net, l.namespace(l.Nodes[0]), l.client())
	return nil
}

// writeFiles writes the secret and one node file per node, and makes the nodes' directories.
func (l *Lab) writeFiles(ctx context.Context) error {
	if !l.Waiting {
		secret := make([]byte, 32)
		_, _ = rand.Read(secret)
		if err := os.WriteFile(l.secretFile(), []byte(hex.EncodeToString(secret)+"\n"), 0o600); err != nil {
			return fmt.Errorf("write the secret: %w", err)
		}
	}
	for _, n := range l.Nodes {
		if err := os.Mkdir(n.Dir, 0o755); err != nil {
			return fmt.Errorf("make the directory of %s: %w", n.Name, err)
		}
		if err := giveToPostgres(n.Dir); err != nil {
			return err
		}
		if n.Disk || n.State {
			if err := n.makeDisk(ctx); err != nil {
				return err
			}
		}
		if l.clocked(n) {
			library, bin, err := findClock(clockLibraries, postgresBins)
			if err == nil {
				err = n.makeClock(library, bin)
			}
			if err != nil {
				return err
			}
		}
		if err := l.writeNodeFile(n); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) writeNodeFile(n *Node) error {
	if err := os.WriteFile(n.Config(), []byte(l.nodeFile(n)), 0o600); err != nil {
		return fmt.Errorf("write the node file of %s: %w", n.Name, err)
	}
	// A mistake here would show as a daemon that ends at once, far from its cause.
	if _, err := config.Load(n.Config(), nil); err != nil {
		return fmt.Errorf("the lab's own node file: %w", err)
	}
	return nil
}

func (l *Lab) secretFile() string { return filepath.Join(l.dir, "secret") }

// giveToPostgres makes Postgres's user own the directory, where Postgres gets a user of its own.
func giveToPostgres(dir string) error {
	if os.Getuid() != 0 {
		return nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return fmt.Errorf("find a user for Postgres, which does not run as root: %w (apt-get install postgresql-15)", err)
	}
	uid, errUID := strconv.Atoi(u.Uid)
	gid, errGID := strconv.Atoi(u.Gid)
	if err := errors.Join(errUID, errGID); err != nil {
		return fmt.Errorf("look up the user postgres: %w", err)
	}
	if err := os.Chown(dir, uid, gid); err != nil {
		return fmt.Errorf("give %s to postgres: %w", dir, err)
	}
	return nil
}

// nodeFile is a node file as a person would write it.
func (l *Lab) nodeFile(n *Node) string {
	var peers []string
	for _, p := range l.Nodes {
		peers = append(peers, p.Cluster)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Written by `quorate lab up`; `quorate run -c %s` runs this node.\n", n.Config())
	fmt.Fprintf(&b, "scope: lab-%s\nname: %s\n", l.ID, n.Name)
	fmt.Fprintf(&b, "cluster:\n  listen: %s\n  data_dir: %s\n", n.Cluster, n.Data())
	if !l.Waiting {
		fmt.Fprintf(&b, "  peers: [%s]\n  secret_file: %s\n", strings.Join(peers, ", "), l.secretFile())
	}
	if n.Witness {
		fmt.Fprintf(&b, "  role: witness\n")
	}
	fmt.Fprintf(&b, "restapi:\n  listen: %s\n", n.API)
	if !n.Witness {
		fmt.Fprintf(&b, "postgresql:\n  listen: %s\n  data_dir: %s\n", n.Postgres, n.PGData())
		if l.clocked(n) {
			fmt.Fprintf(&b, "  bin_dir: %s\n", n.binDir())
		}
		fmt.Fprintf(&b, "  authentication:\n    superuser: {username: postgres, password: %s}\n", l.Password)
		fmt.Fprintf(&b, "  pg_hba:\n    - local all %s md5\n    - host all %s samenet md5\n", proberRole, loadRole)
		fmt.Fprintf(&b, "    - local all all scram-sha-256\n    - host all all samenet scram-sha-256\n")
		fmt.Fprintf(&b, "  parameters:\n    shared_buffers: 64MB\n")
	}
	fmt.Fprintf(&b, "bootstrap:\n  dcs: {failover_after: %s, durability: %s}\n", l.Failover, l.Durability)
	if l.Namespaces || l.Signals {
		fmt.Fprintf(&b, "fencing:\n")
	}
	if l.Namespaces {
		fmt.Fprintf(&b, "  cgroup: quorate-lab-%s/%s\n", l.ID, n.Name)
	}
	if l.Signals {
		fmt.Fprintf(&b, "  signals: true\n")
	}
	return b.String()
}
