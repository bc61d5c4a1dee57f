package pgctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/rejoin"
)

// theirs is a data directory of somebody else at the place of a node's own, with a server that he starts and stops.
type theirs struct {
	t    *testing.T
	n    *node
	conf []string // how he tells the server where its configuration is
}

// someData makes such a directory with a table of one row, and stops its server in order. Its superuser has the password that
// the node's configuration names.
func someData(t *testing.T, n *node) *theirs {
	t.Helper()
	d := &theirs{t: t, n: n}
	if err := n.makeDir(n.cfg.DataDir, 0o700, true); err != nil {
		t.Fatal(err)
	}
	d.run("initdb", "-D", n.cfg.DataDir, "-U", "postgres", "--auth=trust", "--no-sync", "--no-instructions", "--encoding=UTF8",
		"--locale=C")
	d.append("postgresql.conf",
		fmt.Sprintf("port = %d\nlisten_addresses = ''\nunix_socket_directories = '%s'\ndynamic_shared_memory_type = mmap\n"+
			"work_mem = '6MB'\nmax_connections = 30\n", // as the node has it: a standby's copy needs no less than its log says
			n.cfg.Port+1, n.cfg.SocketDir))
	d.start()
	d.sql("ALTER ROLE postgres PASSWORD 'su''per'; CREATE TABLE theirs AS SELECT 1 AS id")
	d.stop("fast")
	return d
}

func (d *theirs) run(program string, args ...string) {
	d.t.Helper()
	if err := runProgram(d.n.program(d.t.Context(), program, args...), nil); err != nil {
		d.t.Fatal(err)
	}
}

func (d *theirs) path(name string) string { return filepath.Join(d.n.cfg.DataDir, name) }

// append adds to a file as Postgres's user would.
func (d *theirs) append(name, text string) {
	d.t.Helper()
	old, err := os.ReadFile(d.path(name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		d.t.Fatal(err)
	}
	if err := d.n.writeFile(d.path(name), append(old, text...)); err != nil {
		d.t.Fatal(err)
	}
}

func (d *theirs) start() {
	d.t.Helper()
	d.run("pg_ctl", append([]string{"start", "-w", "-D", d.n.cfg.DataDir, "-l", d.n.cfg.pgFile("theirs.log")}, d.conf...)...)
	d.t.Cleanup(func() {
		cmd := d.n.program(context.Background(), "pg_ctl", "stop", "-m", "immediate", "-D", d.n.cfg.DataDir)
		_ = cmd.Run() // it has ended, if the test went well
	})
}

func (d *theirs) stop(mode string) {
	d.t.Helper()
	d.run("pg_ctl", "stop", "-w", "-m", mode, "-D", d.n.cfg.DataDir)
}

func (d *theirs) address() string {
	return fmt.Sprintf("host=%s port=%d user=postgres dbname=postgres sslmode=disable", d.n.cfg.SocketDir, d.n.cfg.Port+1)
}

func (d *theirs) sql(sql string) {
	d.t.Helper()
	conn, err := pgconn.Connect(d.t.Context(), d.address())
	if err != nil {
		d.t.Fatal(err)
	}
	_, err = conn.Exec(d.t.Context(), sql).ReadAll()
	if err := errors.Join(err, conn.Close(d.t.Context())); err != nil {
		d.t.Fatal(err)
	}
}

// awaitWrites waits for the end of a recovery, which pg_ctl start does not.
func (d *theirs) awaitWrites() {
	d.t.Helper()
	conn, err := pgconn.Connect(d.t.Context(), d.address())
	if err != nil {
		d.t.Fatal(err)
	}
	defer func() { _ = conn.Close(d.t.Context()) }() // it was only asked
	eventually(d.t, "writes are accepted", func() bool {
		r := conn.ExecParams(d.t.Context(), "SELECT pg_is_in_recovery()", nil, nil, nil, nil).Read()
		return r.Err == nil && string(r.Rows[0][0]) == "f"
	})
}

// adopting is what the agent of a node wants whose data the cluster begins with.
func adopting(n *node, tli pg.Timeline) Want {
	n.hold(1)
	f := n.Found()
	w := Want{Role: RolePrimary, Epoch: 1, LeaseLive: true, Adopt: f.Control.SystemID, Target: rejoin.Branch{Timeline: tli,
		History: f.Position.History}}
	if f.Position.Timeline < tli {
		w.Target.History = append(slices.Clone(f.Position.History), pg.HistoryEntry{Timeline: f.Position.Timeline, End: f.Position.LSN})
	}
	return w
}

func TestAdopt(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(d *theirs)
		tli     pg.Timeline
		table   string
		found   func(Found) bool
	}{
		{"shut down", func(*theirs) {}, 1, "theirs",
			func(f Found) bool { return f.Control.State == pg.ControlShutDown && f.Server.PID == 0 }},
		{"crashed", func(d *theirs) { d.start(); d.sql("CREATE TABLE late AS SELECT 1 AS id"); d.stop("immediate") }, 1, "late",
			func(f Found) bool { return f.Control.State == pg.ControlInProduction && f.Server.PID == 0 }},
		{"running", func(d *theirs) { d.start(); d.sql("CREATE TABLE late AS SELECT 1 AS id") }, 1, "late",
			func(f Found) bool { return f.Server.PID != 0 && f.Server.Port != 0 }},
		{"on a later timeline", func(d *theirs) {
			d.append("standby.signal", "")
			d.start()
			d.run("pg_ctl", "promote", "-w", "-D", d.n.cfg.DataDir)
			d.stop("fast")
		}, 2, "theirs", func(f Found) bool { return f.Position.Timeline == 2 && len(f.Position.History) == 1 }},
		{"a standby", func(d *theirs) { d.append("standby.signal", ""); d.start(); d.stop("fast") }, 2, "theirs",
			func(f Found) bool { return f.Standby && f.Control.State == pg.ControlShutDownInRecovery }},
		{"a standby, and others have later timelines", func(d *theirs) { d.append("standby.signal", ""); d.start(); d.stop("fast") }, 5,
			"theirs",
			func(f Found) bool { return f.Standby }},
		{"a standby that heard of a timeline that it is not on", func(d *theirs) {
			d.append("standby.signal", "")
			d.start()
			d.stop("fast")
			d.append("pg_wal/00000002.history", "1\t0/9000000\tsomebody's\n")
		}, 3, "theirs", func(f Found) bool { return f.Highest == 2 && f.Position.Timeline == 1 }},
		{"a base backup that was recovered as its refusal says", func(d *theirs) {
			d.backup()
			if f := d.n.Found(); !f.Unfinished {
				d.t.Errorf("before that it is %+v", f)
			}
			d.append("recovery.signal", "")
			d.append("postgresql.conf", "restore_command = 'false'\narchive_mode = off\n")
			d.start()
			d.awaitWrites()
			d.stop("fast")
		}, 2, "theirs", func(f Found) bool {
			return !f.Unfinished && f.Control.State == pg.ControlShutDown && f.Position.Timeline == 2
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			n1, n2 := r.node("n1"), r.node("n2")
			d := someData(t, n1)
			c.prepare(d)
			if f := n1.Found(); f.Problem != "" || f.Manager != "" || !c.found(f) || f.Position.LSN == 0 || !slices.ContainsFunc(f.Import.HBA, func(line string) bool { return strings.Join(strings.Fields(line), " ") == "local all all trust" }) {
				t.Fatalf("found %+v", f)
			}
			n1.stopAgent() // whatever it does at its start, it leaves the directory alone
			n1.startAgent()
			members := []Member{{Name: "n1", Host: "127.0.0.1"}, {Name: "n2", Host: "127.0.0.1"}}
			if err := errors.Join(n1.SetMembers(t.Context(), members), n2.SetMembers(t.Context(), members)); err != nil {
				t.Fatal(err)
			}
			w := adopting(n1, c.tli)
			s := n1.drive(w, "the adopted primary", isRun(pg.RunPrimary))
			if s.Timeline != c.tli || s.SystemID != w.Adopt || s.Dir.Foreign || !s.Dir.StandbySignal {
				t.Errorf("it is %+v", s)
			}
			if took := n1.took(); !strings.HasPrefix(took, "adopt start-writer mark") {
				t.Errorf("steps: %s", took)
			}
			for sql, want := range map[string]string{
				"SELECT id FROM " + c.table: "1", "SHOW work_mem": "6MB", "SHOW wal_log_hints": "on", "SHOW synchronous_standby_names": "", "SHOW primary_conninfo": "",
				"SELECT count(*) FROM pg_roles WHERE rolname IN ('quorate', 'replicator') AND rolcanlogin AND rolreplication": "2",
				"SHOW port": fmt.Sprint(n1.cfg.Port), "SHOW data_directory": n1.cfg.DataDir,
			} {
				if got := n1.sql(sql); got != want {
					t.Errorf("%s: %q, want %q", sql, got, want)
				}
			}
			if exists(d.path("recovery.signal")) {
				t.Error("recovery.signal is left")
			}
			group := &cluster{epoch: 1, primary: n1, system: s.SystemID, target: w.Target, final: true, sync: map[string]Sync{},
				members: []*node{n1, n2}}
			n1.drive(group.want(n1), "a slot for n2", func(s Status) bool { return len(s.Slots) > 0 })
			n2.drive(group.want(n2), "a clone that follows", streaming)
		})
	}
}

// backup puts a base backup of the directory in its place.
func (d *theirs) backup() {
	d.t.Helper()
	origin, copied := d.n.cfg.DataDir+"-origin", d.n.cfg.DataDir+"-copy"
	if err := d.n.makeDir(copied, 0o700, true); err != nil {
		d.t.Fatal(err)
	}
	d.start()
	d.run("pg_basebackup", "-D", copied, "-h", d.n.cfg.SocketDir, "-p", fmt.Sprint(d.n.cfg.Port+1), "-U", "postgres", "--checkpoint=fast")
	d.stop("fast")
	if err := errors.Join(os.Rename(d.n.cfg.DataDir, origin), os.Rename(copied, d.n.cfg.DataDir)); err != nil {
		d.t.Fatal(err)
	}
}

// container runs a server on the directory in namespaces of its own, where the directory has another name and the server is
// process 1, and returns how to end it at once.
func (d *theirs) container() (end func()) {
	d.t.Helper()
	if os.Getuid() != 0 {
		d.t.Skip("only root can make namespaces")
	}
	inside := d.n.cfg.pgFile("inside")
	if err := d.n.makeDir(inside, 0o700, true); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command("unshare", "--pid", "--ipc", "--mount", "--fork", "sh", "-c",
		`mount --bind "$0" "$1" && exec setpriv --reuid=postgres --regid=postgres --clear-groups --pdeathsig KILL "$2" -D "$1"`,
		d.n.cfg.DataDir, inside, filepath.Join(d.n.cfg.BinDir, "postgres"))
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		_ = cmd.Process.Kill() // process 1 of the namespace dies with its parent, and all others with that
		_ = cmd.Wait()         // by the signal
	})
	d.t.Cleanup(end)
	eventually(d.t, "the server in the container answers", func() bool {
		conn, err := pgconn.Connect(d.t.Context(), d.address())
		return err == nil && conn.Close(d.t.Context()) == nil
	})
	return end
}

// The server in a container writes "1" into postmaster.pid. Its live directory is not adopted, and is once it has ended.
func TestAdoptNotUnderAServerInAContainer(t *testing.T) {
	n := newRig(t).node("n1")
	d := someData(t, n)
	w := adopting(n, 1)
	end := d.container()
	d.sql("CREATE TABLE late AS SELECT 1 AS id")
	if list, err := os.ReadFile(d.path("postmaster.pid")); err != nil || !strings.HasPrefix(string(list), "1\n") {
		t.Fatalf("postmaster.pid is %q, %v", list, err)
	}
	if f := n.Found(); !strings.Contains(f.Problem, "(postgres) works in "+n.cfg.DataDir) {
		t.Errorf("found %+v", f)
	}
	if err := n.Adopt(t.Context(), 1, w.Adopt, 1); !errors.Is(err, ErrAdopt) || !strings.Contains(err.Error(), "works in") {
		t.Errorf("adopt: %v", err)
	}
	d.sql("INSERT INTO late VALUES (2)") // it goes on
	end()
	n.drive(w, "the adopted primary", isRun(pg.RunPrimary))
	if got := n.sql("SELECT sum(id) FROM late"); got != "3" {
		t.Errorf("it has %q", got)
	}
}

// A second adoption, as after an agent that ended in the first, changes nothing more.
func TestAdoptAgain(t *testing.T) {
	n := newRig(t).node("n1")
	d := someData(t, n)
	d.append("standby.signal", "")
	d.start()
	d.stop("fast")
	w := adopting(n, 2)
	for range 2 {
		if err := n.Adopt(t.Context(), 1, w.Adopt, 2); err != nil {
			t.Fatal(err)
		}
		n.stopAgent()
		if err := os.Remove(n.cfg.own(liveRecord)); err != nil { // written last
			t.Fatal(err)
		}
		n.startAgent()
		if s := n.Status(t.Context()); !s.Dir.Foreign || s.Dir.Control.CheckpointTimeline != 2 || !wasPrimary(s.Dir.Control.State) {
			t.Fatalf("it is %+v", s.Dir)
		}
	}
	n.drive(w, "the adopted primary", isRun(pg.RunPrimary))
}

func TestAdoptRefusals(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(d *theirs, w *Want)
		want   error
		says   string
	}{
		{"no lease", func(d *theirs, _ *Want) { d.n.hold(0) }, ErrNoLease, ""},
		{"another system", func(_ *theirs, w *Want) { w.Adopt++ }, ErrAdopt, "it is of system"},
		{"another timeline", func(_ *theirs, w *Want) { w.Target.Timeline = 2 }, ErrAdopt, "is to begin on timeline 2"},
		{"a backup", func(d *theirs, _ *Want) { d.append("backup_label", "START") }, ErrAdopt, "base backup"},
		{"a restore", func(d *theirs, _ *Want) { d.append("recovery.signal", "") }, ErrAdopt, "recovery.signal"},
		{"another version", func(d *theirs, _ *Want) { d.append("PG_VERSION", "9") }, ErrAdopt, "PostgreSQL"},
		{"a role with quorate's name", func(d *theirs, _ *Want) { d.start(); d.sql("CREATE ROLE quorate LOGIN"); d.stop("fast") }, nil,
			"rename that role"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newRig(t).node("n1")
			d := someData(t, n)
			w := adopting(n, 1)
			c.change(d, &w)
			err := n.Adopt(t.Context(), 1, w.Adopt, w.Target.Timeline)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v, want %v, %q", err, c.want, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "PASSWORD") {
				t.Errorf("a password is told: %v", err)
			}
			if s := n.Status(t.Context()); !s.Dir.Foreign || s.Dir.StandbySignal {
				t.Errorf("it was taken over: %+v", s.Dir)
			}
		})
	}
}

// What is configured outside of the directory, as Debian does it, is found, and runs once it was given.
func TestAdoptWithConfigurationElsewhere(t *testing.T) {
	n := newRig(t).node("n1")
	d := someData(t, n)
	etc := n.cfg.pgFile("etc")
	if err := n.makeDir(etc, 0o700, true); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgresql.conf", "pg_hba.conf"} {
		if err := os.Rename(d.path(name), filepath.Join(etc, name)); err != nil {
			t.Fatal(err)
		}
	}
	d.conf = []string{"-o", fmt.Sprintf("-c config_file=%s/postgresql.conf -c hba_file=%s/pg_hba.conf", etc, etc)}
	d.start()
	d.stop("fast")
	f := n.Found()
	if f.Problem != "" || f.Import.Set["work_mem"] != "6MB" || f.Import.Set["port"] != "" || len(f.Import.HBA) == 0 {
		t.Fatalf("found %+v", f)
	}
	p := Parameters{Version: 1, Set: map[string]string{"dynamic_shared_memory_type": "mmap", "work_mem": f.Import.Set["work_mem"]},
		HBA: append(f.Import.HBA, "host all all samenet scram-sha-256")}
	if err := n.SetParameters(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	n.drive(adopting(n, 1), "the adopted primary", isRun(pg.RunPrimary))
	if got := n.sql("SHOW work_mem"); got != "6MB" {
		t.Errorf("work_mem %s", got)
	}
}

// What only the command line of the old server said is imported, as that of Patroni's says much; wal_level logical is found
// although no file speaks of it.
func TestAdoptWithStartOptions(t *testing.T) {
	n := newRig(t).node("n1")
	d := someData(t, n)
	d.conf = []string{"-o", "-c max_connections=77 -c wal_level=logical"}
	d.start()
	d.stop("fast")
	if f := n.Found(); !strings.Contains(f.Unread, "wal_level is logical") {
		t.Errorf("with wal_level=logical it found %+v", f)
	}
	d.conf = []string{"-o", "-c max_connections=77"}
	d.append("postgresql.conf", "wal_level = logical\n")
	d.start()
	d.append("postgresql.conf", "wal_level = replica\n") // which waits for a restart
	if f := n.Found(); !strings.Contains(f.Unread, "wal_level is logical") {
		t.Errorf("with wal_level=logical still in force it found %+v", f)
	}
	d.stop("fast")
	d.start()
	d.stop("fast")
	if f := n.Found(); f.Patroni {
		t.Errorf("without Patroni's file it found %+v", f)
	}
	d.append("patroni.dynamic.json", "{}")
	if f := n.Found(); !f.Patroni || f.Unread != "" || fmt.Sprint(f.Import.Set) != "map[max_connections:77]" {
		t.Errorf("found %+v", f)
	}
}

// Beside the adopted directory: a standby's copy goes on as it is, other data are kept under another name.
func TestBesideAdoptedData(t *testing.T) {
	r := newRig(t)
	n1, n2, n3 := r.node("n1"), r.node("n2"), r.node("n3")
	d1 := someData(t, n1)
	if out, err := exec.Command("cp", "-a", n1.cfg.DataDir, n2.cfg.DataDir).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	d2 := &theirs{t: t, n: n2}
	d2.append("postgresql.conf", fmt.Sprintf("unix_socket_directories = '%s'\n", n2.cfg.SocketDir))
	d2.append("standby.signal", "")
	d2.start()
	d2.stop("fast")
	d1.start()
	d1.sql("CREATE TABLE late AS SELECT 1 AS id")
	d1.stop("fast")
	someData(t, n3)

	members := []Member{{Name: "n1", Host: "127.0.0.1"}, {Name: "n2", Host: "127.0.0.1"}, {Name: "n3", Host: "127.0.0.1"}}
	for _, n := range []*node{n1, n2, n3} {
		if err := n.SetMembers(t.Context(), members); err != nil {
			t.Fatal(err)
		}
	}
	w := adopting(n1, 1)
	s := n1.drive(w, "the adopted primary", isRun(pg.RunPrimary))
	group := &cluster{epoch: 1, primary: n1, system: s.SystemID, target: w.Target, final: true, sync: map[string]Sync{},
		members: []*node{n1, n2, n3}}
	n1.drive(group.want(n1), "slots", func(s Status) bool { return len(s.Slots) == 2 })

	keep, aside := group.want(n2), group.want(n3)
	if step := Next(keep, n2.Status(t.Context())); step.Kind != Hold {
		t.Errorf("data that nobody decided about: %+v", step)
	}
	keep.Keep, aside.Aside = true, true
	// As the node's loop of settings does it, by Ordering.
	if err := n2.SetHotStandby(n2.Status(t.Context()).Dir.Control.HotStandby()); err != nil {
		t.Fatal(err)
	}
	n2.drive(keep, "the copy follows", streaming)
	if took := n2.took(); strings.Contains(took, "clone") || strings.Contains(took, "rewind") {
		t.Errorf("the copy came back by %s", took)
	}
	if !n2.Status(t.Context()).Admitted {
		t.Error("the copy has the agent's role by now, and nothing says so")
	}
	n2.drive(Want{Role: RoleStopped, Epoch: 1, Stop: StopFast}, "stopped", isRun(pg.RunStopped))
	n2.drive(keep, "the copy comes back", streaming)
	n2.stopAgent()
	n2.startAgent()
	if l, _, _ := n2.snapshot(); !l.Admitted {
		t.Error("the next agent does not know that the copy has its role")
	}
	n3.drive(aside, "a clone follows", streaming)
	if kept, _ := filepath.Glob(n3.cfg.DataDir + ".diverged.*"); len(kept) != 1 || !exists(filepath.Join(kept[0], "PG_VERSION")) {
		t.Errorf("the other data are kept as %v", kept)
	}
	for _, n := range []*node{n2, n3} {
		eventually(t, n.name+" has what was written late", func() bool {
			got, err := n.trySQL(t.Context(), "SELECT id FROM late")
			return err == nil && got == "1"
		})
	}
}
