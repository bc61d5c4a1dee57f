// Package lab runs a whole cluster on one machine: real daemons, each in a network namespace and control group of its
// own when it may make them, on loopback otherwise. It makes faults, measures what they cost, and compares what clients
// were told with what is in the database afterwards.
//
// It must never import a part of the daemon that it judges, must never emulate a fault that it can't make, and must never
// touch a process, namespace or directory that does not carry the id of one of its labs.
package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/quorate/quorate/lab/cgroup"
	"github.com/quorate/quorate/lab/netns"
)

// The ports inside a lab with namespaces.
const (
	clusterPort  = "7400"
	apiPort      = "8008"
	postgresPort = "5432"
)

// recordName is the file that makes a directory a lab's. Nothing without it is ever removed.
const recordName = "lab.json"

// Errors that a verb tells from others.
var (
	ErrNoLab   = errors.New("no lab is up: make one with `quorate lab up`")
	ErrMany    = errors.New("more than one lab is up: name one with --id")
	ErrCannot  = errors.New("this fault can't be made here")
	ErrUnknown = errors.New("no such fault")
)

// Lab is one cluster on this machine, as its record in its directory says.
type Lab struct {
	ID         string  `json:"id"`
	Boot       string  `json:"boot_id"`
	Owner      *Owner  `json:"owner,omitempty"` // who takes it down; nobody: a person will
	Namespaces bool    `json:"namespaces"`      // false: loopback
	Exe        string  `json:"exe"`             // the quorate program its daemons run
	Durability string  `json:"durability"`
	Failover   string  `json:"failover_after"`        // as in the node files
	Signals    bool    `json:"signals,omitempty"`     // fencing.signals on all nodes
	Disks      bool    `json:"disks,omitempty"`       // Postgres of each node has a file system of its own
	StateDisks bool    `json:"state_disks,omitempty"` // or what its daemon keeps has one
	Clocks     bool    `json:"clocks,omitempty"`      // what Postgres takes for the wall clock can be set
	Waiting    bool    `json:"waiting,omitempty"`     // the node files name no peers and no secret: see Options
	Password   string  `json:"password"`              // of the roles postgres, lab_load and lab_prober
	Net        string  `json:"net"`                   // first three numbers of the addresses
	Nodes      []*Node `json:"nodes"`

	dir string
	out io.Writer // what is going on, for people

	keeping keeping
}

// Owner identifies a process for as long as the machine runs.
type Owner struct {
	PID   int    `json:"pid"`
	Start string `json:"start_time"` // clock ticks since boot
}

// Node is one daemon and its Postgres, if it is no witness. The paths are absolute.
type Node struct {
	Name     string `json:"name"`
	Addr     string `json:"addr"`
	Cluster  string `json:"cluster"`  // host:port
	API      string `json:"api"`      // host:port
	Postgres string `json:"postgres"` // host:port
	Dir      string `json:"dir"`
	Witness  bool   `json:"witness,omitempty"` // it votes and has no Postgres
	Disk     bool   `json:"disk,omitempty"`    // its Postgres has a file system of its own, or else
	State    bool   `json:"state,omitempty"`   // what its daemon keeps has one
	Exe      string `json:"exe,omitempty"`     // the program it was upgraded to; "": the lab's
	Outside  bool   `json:"outside,omitempty"` // it belongs to no cluster, not yet or not any more: nobody waits for it
}

// Config is the node file, Log what the daemon prints, Socket where it answers, Data its own directory, PGData Postgres's
// and PGSocket the directory of Postgres's unix socket.
func (n *Node) Config() string   { return filepath.Join(filepath.Dir(n.Dir), n.Name+".yml") }
func (n *Node) Log() string      { return filepath.Join(n.Dir, "quorate.log") }
func (n *Node) Data() string     { return filepath.Join(n.stateDir(), "q") }
func (n *Node) Socket() string   { return filepath.Join(n.Data(), "quorate.sock") }
func (n *Node) PGData() string   { return filepath.Join(n.postgresDir(), "pg") }
func (n *Node) PGSocket() string { return filepath.Join(n.Data(), "run") }

// postgresDir is where the data directory is in, which is renamed when it is replaced: with a disk, that.
func (n *Node) postgresDir() string {
	if n.Disk {
		return n.mountPoint()
	}
	return n.Dir
}

// stateDir is where the daemon's own directory is in.
func (n *Node) stateDir() string {
	if n.State {
		return n.mountPoint()
	}
	return n.Dir
}

// data are the nodes with a Postgres.
func (l *Lab) data() []*Node {
	return slices.DeleteFunc(slices.Clone(l.Nodes), func(n *Node) bool { return n.Witness })
}

// members are the nodes that a whole cluster has.
func (l *Lab) members() []*Node {
	return slices.DeleteFunc(slices.Clone(l.Nodes), func(n *Node) bool { return n.Outside })
}

// postgresLog is where the node's Postgres writes.
func (n *Node) postgresLog() string { return filepath.Join(n.Data(), "postgres", "postgres.log") }

// port is the number in host:port.
func port(addr string) string { return addr[strings.LastIndexByte(addr, ':')+1:] }

// SetOutput sends what is told to people to out from now on.
func (l *Lab) SetOutput(out io.Writer) { l.out = out }

// Dir is the lab's directory.
func (l *Lab) Dir() string { return l.dir }

// Node returns the node of that name, nil if there is none.
func (l *Lab) Node(name string) *Node {
	i := slices.IndexFunc(l.Nodes, func(n *Node) bool { return n.Name == name })
	if i < 0 {
		return nil
	}
	return l.Nodes[i]
}

func (l *Lab) hub() string { return "q" + l.ID + "-hub" }

func (l *Lab) client() string { return "q" + l.ID + "-client" }

func (l *Lab) namespace(n *Node) string { return "q" + l.ID + "-" + n.Name }

// group is the control group of the whole lab.
func (l *Lab) group() (cgroup.Group, error) { return cgroup.Root("quorate-lab-" + l.ID) }

// nodeGroup is the control group that the node's guard is told of, too.
func (l *Lab) nodeGroup(n *Node) (cgroup.Group, error) {
	g, err := l.group()
	return g.Sub(n.Name), err
}

// say tells the person what happens.
func (l *Lab) say(format string, args ...any) { _, _ = fmt.Fprintf(l.out, format+"\n", args...) }

// prefix is how the directories of labs begin; four characters follow.
func prefix() string { return filepath.Join(os.TempDir(), "q") }

// save writes the lab's record.
func (l *Lab) save() error {
	b, err := json.MarshalIndent(l, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the lab's record: %w", err)
	}
	// Readable by root alone: it holds a password.
	if err := os.WriteFile(filepath.Join(l.dir, recordName), append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write the lab's record: %w", err)
	}
	return nil
}

// open reads the record in dir; fs.ErrNotExist if dir is no lab's.
func open(dir string, out io.Writer) (*Lab, error) {
	b, err := os.ReadFile(filepath.Join(dir, recordName))
	if err != nil {
		return nil, fmt.Errorf("read a lab's record: %w", err)
	}
	l := &Lab{dir: dir, out: out}
	if err := json.Unmarshal(b, l); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, recordName), err)
	}
	if l.dir != prefix()+l.ID {
		return nil, fmt.Errorf("%s holds the record of lab %q, whose directory is %s", dir, l.ID, prefix()+l.ID)
	}
	return l, nil
}

// all returns the labs of this machine that this user may read.
func all(out io.Writer) ([]*Lab, error) {
	dirs, err := filepath.Glob(prefix() + "????")
	if err != nil {
		return nil, fmt.Errorf("look for labs: %w", err)
	}
	var labs []*Lab
	for _, dir := range dirs {
		l, err := open(dir, out)
		switch {
		case errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ENOTDIR):
		case err != nil:
			return nil, err
		default:
			labs = append(labs, l)
		}
	}
	return labs, nil
}

// Find returns the lab with that id, or with "" the only one that a person made. ErrNoLab, ErrMany.
func Find(id string, out io.Writer) (*Lab, error) {
	labs, err := all(out)
	if err != nil {
		return nil, err
	}
	boot, err := bootID()
	if err != nil {
		return nil, err
	}
	labs = slices.DeleteFunc(labs, func(l *Lab) bool {
		return l.Boot != boot || id == "" && l.Owner != nil || id != "" && l.ID != id
	})
	switch len(labs) {
	case 0:
		return nil, ErrNoLab
	case 1:
		return labs[0], nil
	}
	var ids []string
	for _, l := range labs {
		ids = append(ids, l.ID)
	}
	return nil, fmt.Errorf("%w (%s)", ErrMany, strings.Join(ids, ", "))
}

func bootID() (string, error) {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("read boot id: %w", err)
	}
	return strings.TrimSpace(string(b)), nil
}

// owner describes a living process; fs.ErrNotExist when there is none.
func owner(pid int) (Owner, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return Owner{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The name, in parentheses, may contain anything; the state and 18 more fields later comes the start time.
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	if len(fields) < 20 {
		return Owner{}, fmt.Errorf("/proc/%d/stat is too short", pid)
	}
	if fields[0] == "Z" {
		return Owner{}, fmt.Errorf("process %d has ended: %w", pid, fs.ErrNotExist)
	}
	return Owner{PID: pid, Start: fields[19]}, nil
}

// alive says whether that very process still runs.
func (o Owner) alive() bool {
	now, err := owner(o.PID)
	return err == nil && now == o
}

// Able says what keeps this user from labs with namespaces; nil if nothing does.
func Able() error {
	if err := netns.Check(); err != nil {
		return err
	}
	g, err := cgroup.Root("")
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(g.Dir(), "cgroup.procs")); err != nil {
		return fmt.Errorf("look at the control groups: %w", err)
	}
	return nil
}
