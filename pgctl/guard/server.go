package guard

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	writeLimit   = time.Second // a client that doesn't read that long is cut off
	commandLimit = 1 << 20     // bytes of one command line
	backlog      = 64          // status lines kept for one subscriber
)

// command is one line from a client. attach and subscribe turn the connection
// into a stream of Status lines, one now and one at each state change; attach
// also passes the shared record and the wake-up descriptor.
type command struct {
	Cmd    string        `json:"cmd"` // start, status, signal, quit, subscribe, attach
	Start  *StartRequest `json:"start,omitempty"`
	Signal string        `json:"signal,omitempty"`
	Run    uint64        `json:"run,omitempty"` // of signal; 0 is the current one
}

// answer is one line to a client.
type answer struct {
	Error  string `json:"error,omitempty"`
	Code   string `json:"code,omitempty"` // names a sentinel
	Status Status `json:"status"`
}

// sentinelCodes gives the errors that cross the socket a name.
func sentinelCodes() map[string]error {
	return map[string]error{
		"running": ErrRunning, "not-running": ErrNotRunning, "not-empty": ErrNotEmpty, "bad-request": ErrBadRequest,
	}
}

// server is everything around the deadline thread. Its goroutines may block; they
// reach the thread through reqs only.
type server struct {
	reqs     chan<- request
	wake     int
	recordFD int
	current  func() Status
	ran      func(StartRequest, Status) // called after each successful start

	mu   sync.Mutex
	subs map[chan Status]bool
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(100 * time.Millisecond) // out of descriptors: not worth ending the guard
			continue
		}
		go s.client(c.(*net.UnixConn))
	}
}

func (s *server) client(c *net.UnixConn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewScanner(c)
	in.Buffer(nil, commandLimit)
	for in.Scan() {
		var cmd command
		if err := json.Unmarshal(in.Bytes(), &cmd); err != nil {
			_ = send(c, failed(s.current(), fmt.Errorf("parse the command: %w (%w)", err, ErrBadRequest)), nil)
			return
		}
		switch cmd.Cmd {
		case "attach":
			s.stream(c, unix.UnixRights(s.recordFD, s.wake))
			return
		case "subscribe":
			s.stream(c, nil)
			return
		}
		st, err := s.run(cmd)
		if send(c, failed(st, err), nil) != nil {
			return
		}
	}
}

// run carries out one command and returns the status after it.
func (s *server) run(cmd command) (Status, error) {
	switch cmd.Cmd {
	case "status":
		return s.current(), nil
	case "quit":
		return s.ask(request{quit: true})
	case "signal":
		sig, err := allowedSignal(cmd.Signal)
		if err != nil {
			return s.current(), err
		}
		return s.ask(request{signal: sig, run: cmd.Run})
	case "start":
		if cmd.Start == nil {
			return s.current(), fmt.Errorf("start without a description: %w", ErrBadRequest)
		}
		files, err := openStart(*cmd.Start)
		if err != nil {
			return s.current(), err
		}
		defer files.close()
		st, err := s.ask(request{start: files})
		if err == nil {
			s.ran(*cmd.Start, st)
		}
		return st, err
	default:
		return s.current(), fmt.Errorf("command %q: %w", cmd.Cmd, ErrBadRequest)
	}
}

// ask hands a request to the deadline thread and waits for its answer.
func (s *server) ask(r request) (Status, error) {
	ch := make(chan reply, 1)
	r.reply = ch
	s.reqs <- r
	poke(s.wake)
	a := <-ch
	return a.status, a.err
}

// allowedSignal refuses SIGKILL and SIGSTOP: killing the postmaster alone isn't a
// fence, its backends go on committing.
func allowedSignal(name string) (unix.Signal, error) {
	switch sig := unix.SignalNum(name); sig {
	case unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT, unix.SIGUSR1, unix.SIGUSR2:
		return sig, nil
	default:
		return 0, fmt.Errorf("signal %q may not be sent to a postmaster: %w", name, ErrBadRequest)
	}
}

func failed(st Status, err error) answer {
	a := answer{Status: st}
	if err == nil {
		return a
	}
	a.Error, a.Code = err.Error(), "other"
	for code, sentinel := range sentinelCodes() {
		if errors.Is(err, sentinel) {
			a.Code = code
		}
	}
	return a
}

func send(c *net.UnixConn, a answer, rights []byte) error {
	line, err := json.Marshal(a)
	if err != nil {
		return fmt.Errorf("encode an answer: %w", err)
	}
	if err := c.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return fmt.Errorf("bound an answer: %w", err)
	}
	if _, _, err := c.WriteMsgUnix(append(line, '\n'), rights, nil); err != nil {
		return fmt.Errorf("send an answer: %w", err)
	}
	return nil
}

// stream sends the current status and then every change until the client leaves
// or doesn't read.
func (s *server) stream(c *net.UnixConn, rights []byte) {
	ch := make(chan Status, backlog)
	s.mu.Lock()
	s.subs[ch] = true
	s.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = c.Read(make([]byte, 1)) // a subscriber says no more; this ends with the connection
	}()
	defer s.drop(ch)
	if send(c, answer{Status: s.current()}, rights) != nil {
		return
	}
	for {
		select {
		case st, ok := <-ch:
			if !ok || send(c, answer{Status: st}, nil) != nil {
				return
			}
		case <-gone:
			return
		}
	}
}

func (s *server) drop(ch chan Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.subs, ch)
}

// tell passes a change on. A subscriber whose queue is full is cut off, so that
// it notices: it reads the record and comes again.
func (s *server) tell(st Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ch := range s.subs {
		select {
		case ch <- st:
		default:
			delete(s.subs, ch)
			close(ch)
		}
	}
}

// listen opens the command socket with mode 0600.
func listen(path string) (*net.UnixListener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: %d bytes, a socket path may have %d; use a shorter directory", path, len(path), maxSocketPath)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	old := unix.Umask(0o177)
	defer unix.Umask(old)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	return l, nil
}

// maxSocketPath is sun_path without its final zero.
const maxSocketPath = 107
