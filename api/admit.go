package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Access says who may change something over TCP, besides who shows one of Options.Tokens.
type Access struct {
	Username, Password string         // by basic authentication; empty: nobody
	ClientCerts        bool           // who has a client certificate that TLS has verified; if there is a Username, he needs both
	Allow              []netip.Prefix // all of them only from these addresses; empty: from any
}

// denial is why somebody may not change anything.
type denial struct {
	status int
	text   string
}

// guarded lets only those who may reach next, and only with JSON in the body: by the unix socket anybody, over TCP whom
// admit knows.
func (s *Server) guarded(local bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.admit(local, r); err != nil {
			s.challenge(w)
			problem(w, err.status, CodeDenied, err.text)
			return
		}
		if bodyType(r) != "application/json" {
			problem(w, http.StatusUnsupportedMediaType, CodeInvalid, "send the body as Content-Type: application/json")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next(w, r)
	}
}

// guardedPatroni is guarded for Patroni's paths. Their clients send any type, curl -d that of a form. A form is what a web
// page can send too, and where no credentials are asked for nothing else would tell the page from a person.
func (s *Server) guardedPatroni(local bool, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		known, err := s.admit(local, r)
		if err != nil {
			s.challenge(w)
			say(w, err.status, err.text)
			return
		}
		if kind := bodyType(r); !known && kind != "" && kind != "application/json" {
			say(w, http.StatusUnsupportedMediaType, "without credentials the body must be sent as Content-Type: application/json")
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		next(w, r)
	}
}

func bodyType(r *http.Request) string {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return r.Header.Get("Content-Type") // Of no known form; "" when there is none.
	}
	return kind
}

// challenge says by what a caller who was not admitted can show who he is.
func (s *Server) challenge(w http.ResponseWriter) {
	if s.opts.Access.Username != "" {
		w.Header().Add("WWW-Authenticate", `Basic realm="Patroni"`)
	}
	w.Header().Add("WWW-Authenticate", `Bearer realm="quorate"`)
}

// admit says whether the caller may change something. known: because of who he showed to be, which a page in his browser
// can't do for him; else because nobody is asked.
func (s *Server) admit(local bool, r *http.Request) (known bool, deny *denial) {
	if local {
		return true, nil
	}
	// A browser adds a user's password or certificate by itself, but it says which page asked.
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return false, &denial{http.StatusForbidden, "a web page of another origin may not change anything here"}
	}
	a := s.opts.Access
	listed := func(p netip.Prefix) bool { return p.Contains(address(r.RemoteAddr)) }
	if len(a.Allow) > 0 && !slices.ContainsFunc(a.Allow, listed) {
		return false, &denial{http.StatusForbidden, "Access is denied"}
	}
	given := r.Header.Get("Authorization")
	certified := a.ClientCerts && r.TLS != nil && len(r.TLS.VerifiedChains) > 0
	switch {
	case s.hasToken(given):
		return true, nil
	case a.ClientCerts && !certified && !strings.HasPrefix(given, bearer): // asked for first, so that nobody else tries passwords
		return false, &denial{http.StatusForbidden, "client certificate required"}
	case certified && a.Username == "", s.hasPassword(r):
		return true, nil
	case len(*s.tokens.Load()) == 0 && a.Username == "" && !a.ClientCerts:
		if !loopback(r.RemoteAddr) || !loopback(r.Host) {
			return false, &denial{http.StatusUnauthorized,
				"this cluster has no secret, so changes are taken only from this machine, by its loopback address"}
		}
		return false, nil
	case given == "" && certified:
		return false, &denial{http.StatusUnauthorized, "the client certificate alone won't do: restapi.authentication names a user, " +
			"whose password is needed as well"}
	case given == "":
		return false, &denial{http.StatusUnauthorized,
			"changes need the admin token (Authorization: Bearer …), the user of restapi.authentication, or the unix socket"}
	}
	return false, &denial{http.StatusUnauthorized, "these credentials are not this cluster's"}
}

const bearer = "Bearer "

func (s *Server) hasToken(header string) bool {
	token, ok := strings.CutPrefix(header, bearer)
	return ok && slices.ContainsFunc(*s.tokens.Load(), func(known string) bool { return same(token, known) })
}

func (s *Server) hasPassword(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	a := s.opts.Access
	right := same(user, a.Username)
	return same(password, a.Password) && right && ok && a.Username != ""
}

// same compares in a time that says nothing about how much of it was right.
func same(given, want string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(want))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

func address(hostPort string) netip.Addr {
	a, err := netip.ParseAddrPort(hostPort)
	if err != nil {
		return netip.Addr{} // In no network.
	}
	return a.Addr().Unmap().WithZone("")
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
