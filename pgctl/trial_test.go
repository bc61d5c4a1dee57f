package pgctl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
)

// watcher shows who reads a log each line when it is written.
type watcher func(line string)

func (w watcher) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}

// TestSettingsOnTrialAreSaidFirst: who is killed when that is said has them neither in the file nor accepted, and a moment later in the
// file only.
func TestSettingsOnTrialAreSaidFirst(t *testing.T) {
	i := bare(t)
	i.cfg.SocketDir, i.cfg.Port, i.cfg.FailoverAfter = "/sockets", 5432, time.Second
	i.cfg.Replication, i.cfg.Superuser = Credentials{Name: "r", Password: "p"}, Credentials{Name: "s", Password: "p"}
	if err := os.MkdirAll(filepath.Dir(i.cfg.confFile()), 0o700); err != nil {
		t.Fatal(err)
	}
	var said []string
	i.log = hclog.New(&hclog.LoggerOptions{Output: watcher(func(line string) {
		_, text, _ := strings.Cut(line, "settings ")
		text, _, _ = strings.Cut(text, ":")
		file, _ := os.ReadFile(i.cfg.confFile()) // there is none yet
		if strings.Contains(string(file), "7MB") {
			text += ", in the file"
		}
		saved, err := i.recordedParameters()
		if err != nil {
			t.Error(err)
		}
		if saved.Set["work_mem"] == "7MB" {
			text += ", accepted"
		}
		said = append(said, text)
	})})
	if err := i.SetParameters(t.Context(), Parameters{Version: 3, Set: map[string]string{"work_mem": "7MB"}}); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(said, "; "); got != "on trial; taken, in the file, accepted" {
		t.Errorf("said: %s", got)
	}
}
