package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
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
		// Health checkers reset the connection after the status line, several times a second: no news.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// Serve answers on l, a TCP listener, until Close. It returns nil then, else why it ended.
func (s *Server) Serve(l net.Listener) error { return run(s.tcp, l) }

// ServeUnix answers on l, a unix socket, whose every caller may do everything: its file mode keeps others away.
func (s *Server) ServeUnix(l net.Listener) error { return run(s.unix, l) }

func run(h *http.Server, l net.Listener) error {
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP on %s: %w", l.Addr(), err)
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

// guarded lets only those change something who may: who came by the unix socket, who has the token, or, when the cluster
// has no secret, who is on this machine.
func (s *Server) guarded(local bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !local {
			if err := s.admit(r); err != nil {
				w.Header().Set("WWW-Authenticate", `Bearer realm="quorate"`)
				problem(w, http.StatusUnauthorized, CodeDenied, err.Error())
				return
			}
		}
		// A form on a web page can't send JSON without asking first, and it is told no.
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			problem(w, http.StatusUnsupportedMediaType, CodeInvalid, "send the body as Content-Type: application/json")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next(w, r)
	}
}

func (s *Server) admit(r *http.Request) error {
	tokens := *s.tokens.Load()
	if len(tokens) == 0 {
		if !loopback(r.RemoteAddr) || !loopback(r.Host) {
			return errors.New("this cluster has no secret, so changes are taken only from this machine, by its loopback address")
		}
		return nil
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return errors.New("changes need the admin token (Authorization: Bearer …) or the unix socket")
	}
	given := sha256.Sum256([]byte(token))
	for _, known := range tokens {
		want := sha256.Sum256([]byte(known))
		if subtle.ConstantTimeCompare(given[:], want[:]) == 1 {
			return nil
		}
	}
	return errors.New("the admin token is not this cluster's")
}

// loopback reports whether addr, with a port or without, is this machine. A host name other than localhost is not: a
// page's own name may have been pointed here.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = strings.Trim(addr, "[]")
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
