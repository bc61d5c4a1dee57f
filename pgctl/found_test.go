package pgctl

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/quorate/quorate/internal/pg"
	"github.com/quorate/quorate/pgctl/guard"
)

// nothingRuns is a guard whose record says that it runs nothing.
type nothingRuns struct{ Guard }

func (nothingRuns) Record() guard.View { return guard.View{State: guard.StateNone} }

// bare is an Instance with directories and no server.
func bare(t *testing.T) *Instance {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	i := &Instance{cfg: Config{Name: "n1", BinDir: "/bin15", DataDir: filepath.Join(dir, "data"), StateDir: filepath.Join(dir,
		"state")}, deps: Deps{Guard: nothingRuns{}}, major: 15}
	if err := os.Mkdir(i.cfg.DataDir, 0o700); err != nil {
		t.Fatal(err)
	}
	return i
}

func put(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadConf(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "main.conf"), strings.Join([]string{
		"# a comment", "Port = 5433 # and one behind", "work_mem 4MB", "a.b='it''s \\\\ here\\n'", "port=5434",
		"include 'more.conf'", "include_if_exists 'none.conf'", "include_dir 'conf.d'", "", "empty = ''",
	}, "\n"))
	put(t, filepath.Join(dir, "more.conf"), "work_mem = '8MB'\nfrom_more = on")
	put(t, filepath.Join(dir, "conf.d", "2.conf"), "ordered = second")
	put(t, filepath.Join(dir, "conf.d", "1.conf"), "ordered = first")
	put(t, filepath.Join(dir, "conf.d", ".hidden.conf"), "hidden = on")
	put(t, filepath.Join(dir, "conf.d", "3.conf.bak"), "backup = on")
	got, err := readConf(filepath.Join(dir, "main.conf"))
	want := map[string]string{"port": "5434", "work_mem": "8MB", "a.b": "it's \\ here\n", "from_more": "on", "ordered": "second",
		"empty": ""}
	if err != nil || !maps.Equal(got.set, want) {
		t.Errorf("read %q, %v, want %q", got.set, err, want)
	}
	for name, content := range map[string]string{
		"no value": "work_mem", "no quote": "a = 'b", "two values": "a = b c", "missing": "include 'none.conf'", "itself": "include 'bad.conf'",
	} {
		put(t, filepath.Join(dir, "bad.conf"), content)
		if got, err := readConf(filepath.Join(dir, "bad.conf")); err == nil {
			t.Errorf("%s: read as %q", name, got.set)
		}
	}
}

func TestReadHBA(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pg_hba.conf")
	put(t, path, "# comment\n\nlocal all all peer # trailing\n host  \"a#b\" \"@all\" \\\n 10.0.0.0/8 md5\n")
	got, err := readHBA(path)
	if want := `local all all peer|host  "a#b" "@all"  10.0.0.0/8 md5`; err != nil || strings.Join(got, "|") != want {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
	put(t, path, "host all al\\\r\nl samenet md5\r\n# a comment \\\nthat goes on\nlocal all all peer\\")
	got, err = readHBA(path)
	if want := `host all all samenet md5|local all all peer`; err != nil || strings.Join(got, "|") != want {
		t.Errorf("read %q, %v, want %q", got, err, want)
	}
	for _, line := range []string{"include more.conf", "host all @users all md5", "host all a,@b all md5",
		"local all all peer map=ours", `local all all peer "map=ours"`,
		`host all all all ldap ldapserver=x ldapbinddn="cn=a" ldapbindpasswd="hush"`, `host all all all ldap ldap"bindpasswd=hush"`,
		`host all all all radius radiusservers="a,b" radiussecrets="hush","hush"`} {
		put(t, path, "local all all peer\n"+line+"\n")
		if got, err := readHBA(path); err == nil || !strings.Contains(err.Error(), "line 2") || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: read as %q, %v", line, got, err)
		}
	}
}

func TestLastStart(t *testing.T) {
	ours := `/usr/lib/postgresql/15/bin/postgres "-D" "/pg" "-c" "config_file=/q/postgres/postgresql.conf" "-c" "hba_file=/q/postgres/pg_hba.conf" "-c" "cluster_name=demo/n2" "-c" "restart_after_crash=off"`
	for _, c := range []struct{ line, conf, manager string }{
		{`/usr/bin/postgres "-D" "/var/lib/pg/main" "-c" "config_file=/etc/pg/main/postgresql.conf"` + "\n",
			"/etc/pg/main/postgresql.conf", ""},
		{`postgres "--config-file=/etc/a b.conf" "-p" "5433"`, "/etc/a b.conf", ""},
		{`/usr/bin/postgres "-D" "/pg" "-c" "cluster_name=demo/n2"`, "", ""},
		{`/usr/bin/postgres`, "", ""},
		{ours, "/q/postgres/postgresql.conf", "demo/n2"},
	} {
		o := parseOptions(c.line)
		if o.set["config_file"] != c.conf || o.manager() != c.manager {
			t.Errorf("%s: configuration %q, manager %q", c.line, o.set["config_file"], o.manager())
		}
	}
}

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		args, set, unclear string
	}{
		{`"-D" "/pg" "-c" "Work_Mem=4 MB" "--max-connections=7" "-cssl=on"`, "map[max_connections:7 ssl:on work_mem:4 MB]", ""},
		{`"-p" "5433" "-h" "" "-k/run" "-N" "9" "-B" "1000" "-S" "64"`,
			"map[listen_addresses: max_connections:9 port:5433 shared_buffers:1000 unix_socket_directories:/run work_mem:64]", ""},
		{`"-Fil" "-Fp5433"`, "map[fsync:off listen_addresses:* port:5433 ssl:on]", ""},
		{`"-d" "2"`, "map[]", "-d"},
		{`"-c" "hush"`, "map[]", "-c without a value"},
		{`"--hush"`, "map[]", "--without a value"},
		{`"-c" "archive_command=a "b" "hush""`, "", "an argument that is no option"},
		{`"-c"`, "map[]", "-c without a value"},
	} {
		o := parseOptions("/bin/postgres " + c.args + "\n")
		if got := fmt.Sprint(o.set); o.unclear != c.unclear || c.set != "" && got != c.set {
			t.Errorf("%s: %s, unclear %q, want %s, %q", c.args, got, o.unclear, c.set, c.unclear)
		}
	}
}

func TestFindImport(t *testing.T) {
	start := func(dir string) string {
		return `/bin/postgres "-D" "/x" "-c" "config_file=` + dir + `/etc/postgresql.conf"`
	}
	for _, c := range []struct {
		name    string
		files   map[string]string // below the parent of the data directory
		outside bool              // the last start used etc/postgresql.conf
		hba     []string          // of the node file
		want    string            // "set|hba", or part of the problem
	}{
		{"all in the directory", map[string]string{"data/postgresql.conf": "work_mem=4MB", "data/pg_hba.conf": "local all all peer"},
			false, nil, "map[]|[local all all peer]"},
		{"the node file says who may connect", map[string]string{"data/postgresql.conf": "", "data/pg_hba.conf": "include x"}, false,
			[]string{"local all all md5"}, "map[]|[]"},
		{"configured elsewhere",
			map[string]string{"etc/postgresql.conf": "work_mem=4MB\nport=5433\ndata_directory='/x'\nwal_level=replica\nhba_file='DIR/etc/pg_hba.conf'",
				"etc/pg_hba.conf": "local all all trust"}, true, nil, "map[work_mem:4MB]|[local all all trust]"},
		{"nothing says how it was configured", nil, false, nil, "postgresql.conf that was in use can't be taken over"},
		{"who may connect can't be read", map[string]string{"data/postgresql.conf": ""}, false, nil,
			"pg_hba.conf that was in use can't be taken over"},
		{"an included file in the directory", map[string]string{"data/postgresql.conf": "include 'base.conf'\ninclude_dir = 'conf.d'\n" +
			"include_if_exists 'none.conf'", "data/base.conf": "work_mem=4MB", "data/conf.d/a.conf": "", "data/pg_hba.conf": "local all all peer"},
			false, nil, "map[]|[local all all peer]"},
		{"an included file elsewhere", map[string]string{"data/postgresql.conf": "include 'DIR/etc/x.conf'", "etc/x.conf": "work_mem=4MB"},
			false, nil, "DIR/etc/x.conf, which is outside of the data directory"},
		{"a file elsewhere that need not be there", map[string]string{"data/postgresql.conf": "include_if_exists '../etc/x.conf'"}, false, nil,
			"DIR/etc/x.conf, which is outside"},
		{"one elsewhere in a file of an included directory", map[string]string{"data/postgresql.conf": "include_dir 'conf.d'",
			"data/conf.d/a.conf": "include 'DIR/etc/x.conf'", "etc/x.conf": ""}, false, nil, "DIR/etc/x.conf, which is outside"},
		{"a file of the directory that was not in use and can't be cloned", map[string]string{"data/postgresql.conf": "include 'DIR/etc/x.conf'",
			"etc/x.conf": "", "etc/postgresql.conf": ""}, true, nil, "DIR/etc/x.conf, which is outside"},
		{"logical decoding", map[string]string{"data/postgresql.conf": "wal_level=logical"}, false, nil, "wal_level is logical"},
		{"logical decoding by ALTER SYSTEM", map[string]string{"data/postgresql.conf": "",
			"data/postgresql.auto.conf": "wal_level = 'logical'"}, false, nil, "wal_level is logical"},
		{"logical decoding by the start command", map[string]string{"data/postgresql.conf": "wal_level=replica",
			"data/postmaster.opts": `/bin/postgres "-c" "wal_level=logical"`}, false, nil, "wal_level is logical"},
		{"settings of the start command", map[string]string{"data/postgresql.conf": "max_connections=100\nwork_mem=4MB",
			"data/postgresql.auto.conf": "max_connections = '500'", "data/pg_hba.conf": "local all all peer",
			"data/postmaster.opts": `/bin/postgres "-c" "max_connections=500" "-p" "5433" "-N" "500" "--wal_level=replica"`}, false, nil,
			"map[max_connections:500]|[local all all peer]"},
		{"ALTER SYSTEM would count more than the start command did", map[string]string{"data/postgresql.conf": "",
			"data/postgresql.auto.conf": "max_connections = '400'", "data/postmaster.opts": `/bin/postgres "-c" "max_connections=500"`},
			false, nil, "ALTER SYSTEM RESET max_connections"},
		{"a start option that nobody knows", map[string]string{"data/postgresql.conf": "",
			"data/postmaster.opts": `/bin/postgres "-d" "3"`}, false, nil, "was started with -d"},
		{"the options of a quorate node are none of a person's", map[string]string{"data/postgresql.conf": "", "data/postmaster.opts": `/bin/postgres "-c" ` +
			`"config_file=/q/postgres/postgresql.conf" "-c" "hba_file=/q/postgres/pg_hba.conf" "-c" "cluster_name=demo/n2" "-c" ` +
			`"restart_after_crash=off" "-c" "work_mem=4MB"`}, false, nil, "map[]|[]"},
		{"hba_file by ALTER SYSTEM", map[string]string{"data/postgresql.conf": "", "data/postgresql.auto.conf": "hba_file = 'other.conf'",
			"data/other.conf": "local all all md5"}, false, nil, "map[]|[local all all md5]"},
		{"a file of settings that can't be read", map[string]string{"data/postgresql.conf": "what is this"}, false, nil, "line 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := bare(t)
			dir := filepath.Dir(i.cfg.DataDir)
			for name, content := range c.files {
				put(t, filepath.Join(dir, name), strings.ReplaceAll(content, "DIR", dir))
			}
			if c.outside {
				put(t, filepath.Join(i.cfg.DataDir, "postmaster.opts"), start(dir))
			}
			i.params.HBA = c.hba
			p, problem := i.findImport(i.lastStart(), false)
			if _, problem := i.findImport(i.lastStart(), true); !strings.Contains(problem, "wal_level is logical") && problem == "" {
				t.Error("the server ran with wal_level logical, and nothing is against it")
			}
			want := strings.ReplaceAll(c.want, "DIR", dir)
			if got := fmt.Sprintf("%v|%v", p.Set, p.HBA); problem == "" && got != want || !strings.Contains(problem,
				want) && problem != "" {
				t.Errorf("%s, problem %q, want %q", got, problem, want)
			}
		})
	}
}

// Links are not cloned: of a postgresql.conf that is one the settings are imported, and an included file that is one holds.
func TestFindImportOfLinks(t *testing.T) {
	i := bare(t)
	etc := filepath.Join(filepath.Dir(i.cfg.DataDir), "etc")
	put(t, filepath.Join(etc, "x.conf"), "work_mem=4MB")
	put(t, filepath.Join(i.cfg.DataDir, "pg_hba.conf"), "local all all peer")
	if err := os.Symlink(filepath.Join(etc, "x.conf"), i.ownConf()); err != nil {
		t.Fatal(err)
	}
	if p, problem := i.findImport(i.lastStart(), false); problem != "" || fmt.Sprint(p.Set) != "map[work_mem:4MB]" {
		t.Errorf("postgresql.conf is a link: %v, %q", p.Set, problem)
	}
	err := errors.Join(os.Remove(i.ownConf()), os.Symlink(etc, filepath.Join(i.cfg.DataDir, "conf.d")))
	if err != nil {
		t.Fatal(err)
	}
	put(t, i.ownConf(), "include_dir 'conf.d'")
	if _, problem := i.findImport(i.lastStart(), false); !strings.Contains(problem, "conf.d, which is outside of the data directory") {
		t.Errorf("an included directory is a link: %q", problem)
	}
}

// Passwords are in no text that reaches a log, wherever in the files they are.
func TestNoPasswordOfTheirFilesIsTold(t *testing.T) {
	i := bare(t)
	conf, auto := filepath.Join(i.cfg.DataDir, "postgresql.conf"), i.autoConf()
	put(t, conf, "port = 5433\nrestore_command = 'get --key hush'\n")
	put(t, auto, "primary_conninfo = 'host=n9 password=hush'\n")
	if got := strings.Join(i.unused(), ", "); got != "port, primary_conninfo, restore_command" {
		t.Errorf("not used: %s", got)
	}
	for _, path := range []string{conf, auto} {
		put(t, conf, "")
		put(t, path, "primary_conninfo = 'host=n9 password=hush")
		if _, problem := i.findImport(i.lastStart(), false); !strings.Contains(problem, "line 1") || strings.Contains(problem, "hush") {
			t.Errorf("%s: %s", path, problem)
		}
	}
}

func TestDirProblem(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(i *Instance) error
		want   string // empty: none
	}{
		{"a good one", func(*Instance) error { return nil }, ""},
		{"an older version", func(i *Instance) error {
			return os.WriteFile(filepath.Join(i.cfg.DataDir, "PG_VERSION"), []byte("13\n"), 0o600)
		},
			"is of PostgreSQL 13 and bin_dir /bin15 has PostgreSQL 15: install PostgreSQL 13"},
		{"one that is too old", func(i *Instance) error {
			return os.WriteFile(filepath.Join(i.cfg.DataDir, "PG_VERSION"), []byte("9.6\n"), 0o600)
		}, "not a PostgreSQL version"},
		{"something else", func(i *Instance) error {
			return os.Rename(filepath.Join(i.cfg.DataDir, "PG_VERSION"), filepath.Join(i.cfg.DataDir, "lost+found"))
		}, "has no PG_VERSION"},
		{"open to others", func(i *Instance) error { return os.Chmod(i.cfg.DataDir, 0o755) }, "has mode 0755"},
		{"open to the group", func(i *Instance) error { return os.Chmod(i.cfg.DataDir, 0o750) }, ""},
		{"a link", func(i *Instance) error {
			real := i.cfg.DataDir + "-real"
			if err := os.Rename(i.cfg.DataDir, real); err != nil {
				return err
			}
			return os.Symlink(real, i.cfg.DataDir)
		}, "is a symbolic link, and a clone replaces a directory by its name: set postgresql.data_dir to "},
		{"somebody else's", func(i *Instance) error { i.cred = &guard.Credential{UID: 12345}; return nil }, "would run as user 12345"},
	} {
		t.Run(c.name, func(t *testing.T) {
			i := bare(t)
			put(t, filepath.Join(i.cfg.DataDir, "PG_VERSION"), "15\n")
			if err := c.change(i); err != nil {
				t.Fatal(err)
			}
			if got := i.dirProblem(); c.want == "" && got != "" || !strings.Contains(got, c.want) {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// A lock file names a process; it is a server on this directory only if it works in it.
func TestStranger(t *testing.T) {
	i := bare(t)
	lock := func(pid int) {
		put(t, filepath.Join(i.cfg.DataDir, "postmaster.pid"), fmt.Sprintf("%d\n%s\n1700000000\n5433\n", pid, i.cfg.DataDir))
	}
	if s := i.stranger(); s != (Postmaster{}) {
		t.Errorf("without a lock file: %+v", s)
	}
	lock(os.Getpid())
	if s := i.stranger(); s != (Postmaster{}) {
		t.Errorf("a process elsewhere: %+v", s)
	}
	pid, end := worksIn(t, i.cfg.DataDir)
	lock(pid)
	eventually(t, "the process is seen", func() bool { return i.stranger() == Postmaster{PID: pid, Port: 5433} })
	if text := i.occupied(); text != "" {
		t.Errorf("somebody else is seen beside it: %s", text)
	}
	if err := i.startable(); !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), fmt.Sprintf("(pid %d)", pid)) {
		t.Errorf("another would be started beside it, or it is not named: %v", err)
	}
	end()
	eventually(t, "it has ended, reaped or not", func() bool { return i.stranger() == Postmaster{} })
	if err := i.startable(); err != nil {
		t.Errorf("when it has ended: %v", err)
	}
}

// worksIn starts a process in a directory, as a server does, and returns how to end it.
func worksIn(t *testing.T, dir string) (pid int, end func()) {
	t.Helper()
	cmd := exec.Command("cat")
	cmd.Dir = dir
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end = sync.OnceFunc(func() {
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(end)
	return cmd.Process.Pid, end
}

// A server in a container writes the number that it has there, which is init's or somebody else's here. Nobody can end it
// properly from here, so nothing is done to its directory.
func TestAServerWhoseNumberIsNotOursHolds(t *testing.T) {
	i := bare(t)
	put(t, filepath.Join(i.cfg.DataDir, "PG_VERSION"), "15\n")
	pid, end := worksIn(t, i.cfg.DataDir)
	if text := i.occupied(); text != "" {
		t.Errorf("without a lock file: %s", text)
	}
	for _, number := range []int{1, os.Getpid(), -pid} { // init there, somebody else here, single-user mode
		put(t, i.lockFile(), fmt.Sprintf("%d\n%s\n1700000000\n5432\n", number, i.cfg.DataDir))
		eventually(t, "the process is seen", func() bool {
			return strings.Contains(i.occupied(), fmt.Sprintf("process %d (cat) works in %s", pid, i.cfg.DataDir))
		})
		if s := i.stranger(); s != (Postmaster{}) {
			t.Errorf("number %d: %+v would be ended", number, s)
		}
		if f := i.Found(); !strings.Contains(f.Problem, "keep it from being started again") {
			t.Errorf("number %d: found %+v", number, f)
		}
		for what, err := range map[string]error{
			"adopted": i.mayAdopt(adoptPlan{}), "cloned over": i.StartClone(Upstream{Name: "n2"}, "test"), "started": i.startable(),
		} {
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d", pid)) {
				t.Errorf("number %d: it would be %s: %v", number, what, err)
			}
		}
	}
	end()
	if text := i.occupied(); text != "" {
		t.Errorf("when it has ended: %s", text)
	}
}

// Nothing is written into data that nobody has decided about.
func TestForeignDataAreLeftAlone(t *testing.T) {
	i := bare(t)
	put(t, filepath.Join(i.cfg.DataDir, "PG_VERSION"), "15\n")
	if !i.foreign() {
		t.Fatal("data that this node never managed are not foreign")
	}
	if err := i.adopt(); err != nil {
		t.Fatal(err)
	}
	if _, err := i.detachStopped(1); err == nil {
		t.Error("they have a position")
	}
	if err := i.probeData(); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(i.cfg.DataDir)
	if err != nil || len(entries) != 1 {
		t.Errorf("in the directory: %v, %v", entries, err)
	}
	log := onAnotherDevice(t, i.cfg.DataDir)
	if err := errors.Join(os.Symlink(log, i.walDir()), os.Mkdir(filepath.Join(log, probeName), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := i.probeWAL(); err != nil { // it can't make its file
		t.Errorf("their log was written to: %v", err)
	}
	if err := os.Mkdir(i.cfg.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := i.setLive(live{}); err != nil {
		t.Fatal(err)
	}
	if i.foreign() {
		t.Error("managed data are foreign")
	}
	if err := i.probeWAL(); err == nil {
		t.Error("our own log is not probed")
	}
	again := &Instance{cfg: i.cfg, deps: i.deps}
	if err := again.load(); err != nil || again.foreign() {
		t.Errorf("managed data are foreign to the next agent: %v", err)
	}
}

// onAnotherDevice makes a directory on another file system than dir's.
func onAnotherDevice(t *testing.T, dir string) string {
	t.Helper()
	own, err := placeOf(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, parent := range []string{"/dev/shm", "/var/tmp"} {
		at, err := placeOf(parent)
		if err != nil || at.major == own.major && at.minor == own.minor {
			continue
		}
		out, err := os.MkdirTemp(parent, "quorate-wal-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(out); err != nil {
				t.Error(err)
			}
		})
		return out
	}
	t.Fatal("neither /dev/shm nor /var/tmp is on another device than the directory for temporary files")
	return ""
}

// A clone makes a directory ours when its copy is whole. Until then an agent that starts leaves alone what is there.
func TestDataAreForeignWhileTheirCloneIsCopied(t *testing.T) {
	i := bare(t)
	put(t, filepath.Join(i.cfg.DataDir, "PG_VERSION"), "15\n")
	if err := os.Mkdir(i.cfg.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	next := func() *Instance {
		n := &Instance{cfg: i.cfg, deps: i.deps}
		if err := errors.Join(n.load(), n.adopt()); err != nil {
			t.Fatal(err)
		}
		return n
	}
	p, err := i.planClone(Step{Kind: Clone, Upstream: Upstream{Name: "n2"}})
	if err != nil || p.Ours {
		t.Fatalf("plan %+v, %v", p, err)
	}
	if !i.foreign() || !next().foreign() || exists(i.signalFile()) {
		t.Error("it is taken for ours while the copy is made")
	}
	p.Phase = phaseCopied
	if err := i.setPlan(p); err != nil {
		t.Fatal(err)
	}
	if i.foreign() || next().foreign() {
		t.Error("it is foreign when the copy is whole")
	}
	i = next()
	i.marks.plan = nil // done; a later clone of what is ours by now
	if p, err = i.planClone(Step{Kind: Clone, Upstream: Upstream{Name: "n2"}}); err != nil || !p.Ours || next().foreign() {
		t.Errorf("ours is foreign while it is cloned anew: %+v, %v", p, err)
	}
}

// Postgres chooses the timeline itself, so what it made is compared with what everybody expects.
func TestWhatWasOpenedIsWhatWasPlanned(t *testing.T) {
	p := adoptPlan{SystemID: 7, Timeline: 3}
	good := pg.Control{SystemID: 7, CheckpointTimeline: 3, State: pg.ControlShutDown}
	if err := p.opened(good); err != nil {
		t.Error(err)
	}
	for _, change := range []func(*pg.Control){
		func(c *pg.Control) { c.CheckpointTimeline = 4 },
		func(c *pg.Control) { c.State = pg.ControlInArchiveRecovery },
		func(c *pg.Control) { c.SystemID = 8 },
	} {
		c := good
		change(&c)
		if err := p.opened(c); !errors.Is(err, ErrAdopt) || !strings.Contains(err.Error(), "to choose again") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// A history file on the timeline that is to be begun goes only if it is what an attempt before this made.
func TestATimelineThatIsTakenIsNotFreed(t *testing.T) {
	i := bare(t)
	path := filepath.Join(i.walDir(), "00000002.history")
	p := adoptPlan{Timeline: 2}
	put(t, filepath.Join(i.walDir(), "00000003.history"), "")
	if err := i.freeTimeline(p); err != nil {
		t.Errorf("without one: %v", err)
	}
	put(t, path, "1\t0/3000000\tsomebody's\n")
	if err := i.freeTimeline(p); !errors.Is(err, ErrAdopt) || !strings.Contains(err.Error(), path) || !exists(path) {
		t.Errorf("somebody's: %v", err)
	}
	p.Promoting = true
	if err := i.freeTimeline(p); err != nil || exists(path) {
		t.Errorf("our own: %v", err)
	}
}

// The statements are one per line whatever the passwords are, and no password of a role of people is changed.
func TestAdoptionSQL(t *testing.T) {
	i := bare(t)
	i.cfg.Superuser = Credentials{Name: "postgres", Password: "su'per"}
	i.cfg.Replication = Credentials{Name: "repl", Password: "a\nb\\"}
	sql := i.adoptionSQL()
	lines := strings.Split(strings.TrimSuffix(sql, "\n"), "\n")
	for _, line := range lines {
		if word, _, _ := strings.Cut(line, " "); !strings.Contains("SELECT SET CREATE ALTER GRANT", word) {
			t.Errorf("a statement goes over two lines: %q", line)
		}
		if strings.HasPrefix(line, `ALTER ROLE "postgres"`) {
			t.Errorf("a role of people is changed: %s", line)
		}
	}
	if !strings.Contains(sql, `ALTER ROLE "repl" LOGIN REPLICATION PASSWORD E'a b\\'`) {
		t.Errorf("the replication role:\n%s", sql)
	}
}
