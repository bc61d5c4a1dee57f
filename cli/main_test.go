package cli

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"quorate": func() {
			os.Exit(Main(os.Args[1:], os.Environ(), os.Stdout, os.Stderr, Build{Version: "1.2.3", Tags: os.Getenv("BUILT_WITH")}))
		},
	})
}

// TestScripts runs testdata/*.txtar. In each a daemon answers on quorate.sock with the files below answers: GET /v1/x is
// answers/GET/v1/x, its status 200, or the one of the problem document that it holds. The body of the last POST is in the file
// asked.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:   "testdata",
		Cmds:  map[string]func(*testscript.TestScript, bool, []string){"code": code},
		Setup: daemon,
		// UPDATE=1 writes into the scripts what the answers look like now.
		UpdateScripts: os.Getenv("UPDATE") != "",
	})
}

// code runs quorate and wants this exit code: code 3 status.
func code(ts *testscript.TestScript, not bool, args []string) {
	if not || len(args) < 2 {
		ts.Fatalf("usage: code N verb...")
	}
	err := ts.Exec("quorate", args[1:]...)
	got := "0"
	if err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("exit code %s, want %s", got, args[0])
	}
}

// daemon stands in for one. After POST /v1/stop it is gone.
func daemon(env *testscript.Env) error {
	dir, err := os.MkdirTemp("", "qcli") // Short: a socket's path has a limit.
	if err != nil {
		return err
	}
	l, err := net.Listen("unix", filepath.Join(dir, "quorate.sock"))
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	answers := filepath.Join(env.WorkDir, "answers")
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		file := filepath.Join(answers, r.Method, filepath.FromSlash(r.URL.Path))
		body, err := os.ReadFile(file)
		if err != nil { // What is below another answer, such as history/8, is in history=8: no name is file and directory.
			body, err = os.ReadFile(filepath.Dir(file) + "=" + filepath.Base(file))
		}
		if r.Method == http.MethodPost && err == nil {
			var asked []byte
			if asked, err = io.ReadAll(r.Body); err == nil {
				err = os.WriteFile(filepath.Join(env.WorkDir, "asked"), asked, 0o600)
			}
		}
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		var p struct{ Status int }
		if err := json.Unmarshal(body, &p); err == nil && p.Status != 0 {
			w.WriteHeader(p.Status)
		}
		_, _ = w.Write(body)
		if r.URL.Path == "/v1/stop" {
			_ = l.Close()
		}
	})}
	go func() { _ = s.Serve(l) }()
	env.Setenv("D", dir)
	env.Setenv("S", filepath.Join(dir, "quorate.sock"))
	env.Defer(func() { _ = s.Close(); _ = os.RemoveAll(dir) })
	return nil
}

func TestBrokenPipe(t *testing.T) {
	r, w := io.Pipe()
	_ = r.Close()
	var said strings.Builder
	if got := Main([]string{"version"}, nil, w, &said, Build{Version: "1.2.3"}); got != exitError || !strings.Contains(said.String(), "write the answer") {
		t.Errorf("%d %q", got, said.String())
	}
}
