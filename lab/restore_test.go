package lab

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRestoreLine(t *testing.T) {
	if got, want := restoreLine(1250*time.Millisecond), "restore_command = 'sleep 1.250 && false'"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
	// 1 says that there is no such file; more, or a signal, would end the server.
	_, command, _ := strings.Cut(restoreLine(0), "'")
	err := exec.Command("sh", "-c", strings.TrimSuffix(command, "'")).Run()
	if exit, ok := err.(*exec.ExitError); !ok || exit.ExitCode() != 1 {
		t.Errorf("it ends with %v", err)
	}
}

func TestAppendLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "postgresql.auto.conf")
	if err := appendLine(file, "a = 'b'"); !os.IsNotExist(err) {
		t.Errorf("a file that is not there: %v", err)
	}
	for before, want := range map[string]string{"": "\na = 'b'\n", "x = '1'\n": "x = '1'\n\na = 'b'\n", "x = '1'": "x = '1'\na = 'b'\n"} {
		if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		err := appendLine(file, "a = 'b'")
		if b, errRead := os.ReadFile(file); err != nil || errRead != nil || string(b) != want {
			t.Errorf("%q: %q, %v, %v", before, b, err, errRead)
		}
	}
}
