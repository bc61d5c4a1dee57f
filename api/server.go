package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"
)

const (
	headerTimeout = 5 * time.Second
	idleTimeout   = time.Minute
	// wholeTimeout bounds a request. A shorter one for reading would also cancel those that wait.
	wholeTimeout  = longestWait + 15*time.Second
	maxHeader     = 16 << 10
	maxBody       = 64 << 10
	maxSocketPath = 107 // bytes the kernel takes
	dialTimeout   = time.Second
)

// SocketName is the unix socket's name in cluster.data_dir.
const SocketName = "quorate.sock"

// Server answers HTTP on the listeners that it is given. All methods may be called by any goroutine.
type Server struct {
	node Node
	opts Options
	tcp  *http.Server
	unix *http.Server

	tokens atomic.Pointer[[]string]
}

// New makes a server that listens nowhere yet.
func New(n Node, o Options) *Server {
	s := &Server{node: n, opts: o}
	s.SetTokens(o.Tokens)
	s.tcp, s.unix = s.limited(s.routes(false)), s.limited(s.routes(true))
	return s
}

// SetTokens replaces Options.Tokens for requests from now on.
func (s *Server) SetTokens(tokens []string) { s.tokens.Store(&tokens) }

func (s *Server) limited(h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: wholeTimeout, WriteTimeout: wholeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		// It would say 200 to OPTIONS * on every node, and a balancer that asks so would take a standby for the primary.
		DisableGeneralOptionsHandler: true,
		// Health checkers reset the connection after the status line, several times a second: no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// Serve answers on l, a TCP listener, until Close, by HTTPS if Options.TLS says so, so many connections at a time. It returns
// nil then, else why it ended.
func (s *Server) Serve(l net.Listener) error {
	l = bound(l)
	if s.opts.TLS != nil {
		l = tls.NewListener(l, s.opts.TLS)
	}
	return run(s.tcp, l)
}

// ServeUnix answers on l, a unix socket, whose every caller may do everything: its file mode keeps others away.
func (s *Server) ServeUnix(l net.Listener) error { return run(s.unix, l) }

func run(h *http.Server, l net.Listener) error {
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
	}
	return nil
}

// Drain ends both after the requests under way were answered, or when ctx ends.
func (s *Server) Drain(ctx context.Context) error {
	if err := errors.Join(s.tcp.Shutdown(ctx), s.unix.Shutdown(ctx)); err != nil {
		return fmt.Errorf("answer the last requests: %w", err)
	}
	return nil
}

// Close ends both, with the requests under way.
func (s *Server) Close() error {
	return errors.Join(s.tcp.Close(), s.unix.Close())
}

// ListenUnix makes the unix socket at path for the owner of this process only. It replaces what a killed daemon left,
// but not the socket of one that answers.
func ListenUnix(path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("socket path %s has %d bytes, at most %d are possible: choose a shorter cluster.data_dir", path, len(path), maxSocketPath)
	}
	if c, err := net.DialTimeout("unix", path, dialTimeout); err == nil {
		_ = c.Close()
		return nil, fmt.Errorf("another quorate daemon answers on %s: stop it first", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove the old socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on the unix socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("keep others from the socket: %w", err), l.Close())
	}
	return l, nil
}
