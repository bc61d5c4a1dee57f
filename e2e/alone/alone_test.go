package alone

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// envLock makes the test's program a run that has the lock it names, and has started something.
const envLock = "QUORATE_ALONE_TEST_LOCK"

func TestMain(m *testing.M) {
	if path := os.Getenv(envLock); path != "" {
		os.Exit(hold(path))
	}
	os.Exit(m.Run())
}

func hold(path string) int {
	lock, err := take(path, time.Minute, os.Stderr)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer lock.Close()
	child := exec.Command("sleep", "600")
	if err := child.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(child.Process.Pid)
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is told to end, or killed
	_ = child.Process.Kill()
	return 0
}

// A run that was killed has nothing any more, although what it started lives on.
func TestTheNextRunWaitsForTheEndOfTheFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first := exec.Command(os.Args[0])
	first.Env = append(os.Environ(), envLock+"="+path)
	first.Stderr = os.Stderr
	stdin, err := first.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := first.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Kill(child, syscall.SIGKILL) }()

	says, out := io.Pipe()
	taken := make(chan error, 1)
	go func() {
		lock, err := take(path, time.Minute, out)
		if err == nil {
			err = lock.Close()
		}
		taken <- err
	}()
	said, err := bufio.NewReader(says).ReadString('\n')
	if err != nil || !strings.Contains(said, path) {
		t.Errorf("said %q, error %v", said, err)
	}
	select {
	case err := <-taken:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // it was killed
	if err := <-taken; err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(child, 0); err != nil {
		t.Errorf("what the first had started was to live on: %v", err)
	}
}

func TestWaitingHasALimit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	first, err := take(path, time.Minute, t.Output())
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if _, err := take(path, time.Millisecond, &out); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "1ms") {
		t.Errorf("error %v", err)
	}
	if strings.Count(out.String(), "waiting") != 1 {
		t.Errorf("said %q", out.String())
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := take(path, time.Minute, &out)
	if err != nil {
		t.Fatal(err)
	}
	_ = second.Close()
}

// Others may lock what this user made, whatever his umask.
func TestTheLockIsForEverybody(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	old := syscall.Umask(0o077)
	lock, err := take(path, time.Minute, t.Output())
	syscall.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}
