package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// welcome is the accepting side of a handshake. When it fails the caller closes raw.
func (m *Mux) welcome(raw net.Conn) (*Conn, *protoListener, error) {
	deadline := time.Now().Add(handshakeLimit)
	if err := raw.SetDeadline(deadline); err != nil {
		return nil, nil, err
	}
	me := m.cfg.Credentials.current.Load()
	c := &Conn{raw: raw, mux: m, local: me.id}
	var err error
	if m.cfg.Credentials.Insecure() {
		err = c.welcomePlain()
	} else {
		err = c.welcomeTLS(me)
	}
	if err != nil {
		return nil, nil, err
	}
	listener := m.listenerFor(c.proto)
	err = m.admitted(c, me.id)
	if err == nil && listener == nil {
		err = fmt.Errorf("node %s %s %s now", me.id.nodeID, notServing, c.proto)
	}
	if err != nil {
		return nil, nil, c.refuse(me, err)
	}
	c.from = listener
	if err := c.confirm(me); err != nil {
		return nil, nil, err
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, nil, err
	}
	if err := m.track(c); err != nil {
		return nil, nil, err
	}
	return c, listener, nil
}

func (c *Conn) welcomeTLS(me *credential) error {
	secure := tls.Server(c.raw, me.serverConfig())
	if err := secure.Handshake(); err != nil {
		var plain tls.RecordHeaderError
		if errors.As(err, &plain) && string(plain.RecordHeader[:]) == magic[:len(plain.RecordHeader)] {
			c.Conn = c.raw
			return c.refusePlain(errors.New("this node has a cluster.secret and the caller has none: set cluster.secret_file there"))
		}
		return translate(me, c.raw.RemoteAddr().String(), err)
	}
	state := secure.ConnectionState()
	c.Conn, c.proto = secure, Proto(state.NegotiatedProtocol)
	if me.own {
		return c.welcomeOwn(me, state)
	}
	peer, err := identityOf(state.PeerCertificates[0])
	if err != nil {
		return err
	}
	c.peer, c.issuer = peer, issuerOf(state)
	return nil
}

// welcomeOwn judges a certificate that names no ids, and hears the ids inside the
// connection. It hears them first: a close with unread bytes would lose the answer.
func (c *Conn) welcomeOwn(me *credential, state tls.ConnectionState) error {
	h, err := readHello(c.Conn)
	if err != nil {
		return err
	}
	if c.names, c.issuer, err = me.judge(state, x509.ExtKeyUsageClientAuth); err != nil {
		return c.refuse(me, err)
	}
	if h.proto != c.proto {
		return c.refuse(me, fmt.Errorf("it asked for %s and speaks %q", c.proto, printable([]byte(h.proto))))
	}
	c.peer = h.id
	return nil
}

func (c *Conn) welcomePlain() error {
	c.Conn = c.raw
	h, err := readHello(c.raw)
	if errors.Is(err, errSpeaksTLS) {
		return c.refusePlain(errors.New("this node has no cluster.secret and the caller has one: set cluster.secret_file here"))
	}
	if err != nil {
		return err
	}
	if !slices.Contains(protocols(), string(h.proto)) {
		return c.refusePlain(fmt.Errorf("unknown protocol %q", printable([]byte(h.proto))))
	}
	c.proto, c.peer = h.proto, h.id
	return nil
}

// confirm tells the dialer that it is welcome and, where no certificate says it, who
// welcomes it.
func (c *Conn) confirm(me *credential) error {
	if me.leaf != nil && !me.own {
		return writeVerdict(c, "")
	}
	if _, err := io.WriteString(c.Conn, magic); err != nil {
		return err
	}
	if err := writeVerdict(c.Conn, ""); err != nil {
		return err
	}
	return writeHello(c.Conn, hello{proto: c.proto, id: me.id})
}

// refuse tells the dialer why, as far as it listens, and gives the error.
func (c *Conn) refuse(me *credential, reason error) error {
	if _, secure := c.Conn.(*tls.Conn); !secure {
		return c.refusePlain(reason)
	}
	if me.own {
		_, _ = io.WriteString(c.Conn, magic)
	}
	_ = writeVerdict(c, reason.Error())
	_ = c.Conn.Close()
	return &RefusedError{Addr: c.RemoteAddr().String(), Reason: reason.Error(), Local: true}
}

// refusePlain answers in the clear. It reads what the peer still sends, because a
// close with unread bytes resets the connection and loses the answer.
func (c *Conn) refusePlain(reason error) error {
	if _, err := io.WriteString(c.raw, magic); err == nil {
		_ = writeVerdict(c.raw, reason.Error())
	}
	if half, ok := c.raw.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(c.raw, 64<<10))
	}
	return &RefusedError{Addr: c.raw.RemoteAddr().String(), Reason: reason.Error(), Local: true}
}

// introduce is the dialing side. When it fails the caller closes raw.
func (m *Mux) introduce(ctx context.Context, raw net.Conn, proto Proto, addr, nodeID string) (*Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	me := m.cfg.Credentials.current.Load()
	c := &Conn{raw: raw, mux: m, proto: proto, local: me.id}
	var err error
	if me.leaf == nil {
		err = c.introducePlain(m.cfg.Network, me, addr)
	} else {
		err = c.introduceTLS(me, addr)
	}
	if err != nil {
		return nil, err
	}
	if nodeID != "" && c.peer.nodeID != nodeID {
		return nil, &RefusedError{Addr: addr, Local: true, Reason: fmt.Sprintf("it is node %s, not %s", c.peer.nodeID, nodeID)}
	}
	if err := m.admitted(c, me.id); err != nil {
		return nil, &RefusedError{Addr: addr, Local: true, Reason: err.Error()}
	}
	if err := m.track(c); err != nil {
		return nil, err
	}
	if !stop() {
		m.forget(c)
		return nil, ctx.Err()
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		m.forget(c)
		return nil, fmt.Errorf("handshake with %s: %w", addr, err)
	}
	return c, nil
}

func (c *Conn) introduceTLS(me *credential, addr string) error {
	secure := tls.Client(c.raw, me.clientConfig(c.proto))
	if err := secure.Handshake(); err != nil {
		return translate(me, addr, err)
	}
	state := secure.ConnectionState()
	c.Conn = secure
	if me.own {
		var err error
		if c.names, c.issuer, err = me.judge(state, x509.ExtKeyUsageServerAuth); err != nil {
			return &RefusedError{Addr: addr, Reason: err.Error(), Local: true}
		}
		return c.exchange(me, addr)
	}
	peer, err := identityOf(state.PeerCertificates[0])
	if err != nil {
		return &RefusedError{Addr: addr, Reason: err.Error(), Local: true}
	}
	c.peer, c.issuer = peer, issuerOf(state)
	// In TLS 1.3 the client is done first; a server that dislikes its certificate
	// says so only now.
	reason, err := readVerdict(secure)
	if err != nil {
		return translate(me, addr, err)
	}
	if reason != "" {
		return &RefusedError{Addr: addr, Reason: reason}
	}
	return nil
}

func (c *Conn) introducePlain(n Network, me *credential, addr string) error {
	// A name such as localhost is judged by what it led to.
	if err := checkLoopback(n, c.raw.RemoteAddr().String()); err != nil {
		return fmt.Errorf("dial %s: %w", addr, err)
	}
	c.Conn = c.raw
	return c.exchange(me, addr)
}

// exchange says who this node is and hears who the peer is, where no certificate
// tells.
func (c *Conn) exchange(me *credential, addr string) error {
	if err := writeHello(c.Conn, hello{proto: c.proto, id: c.local}); err != nil {
		return translate(me, addr, err)
	}
	if err := readMagic(c.Conn); err != nil {
		if errors.Is(err, errSpeaksTLS) || errors.Is(err, errNotQuorate) {
			return &RefusedError{Addr: addr, Reason: err.Error(), Local: true}
		}
		return translate(me, addr, err)
	}
	reason, err := readVerdict(c.Conn)
	if err != nil {
		return translate(me, addr, err)
	}
	if reason != "" {
		return &RefusedError{Addr: addr, Reason: reason}
	}
	h, err := readHello(c.Conn)
	if err != nil {
		return translate(me, addr, err)
	}
	c.peer = h.id
	return nil
}

const otherSecret = "it uses another cluster.secret: give every node the same secret file, and all of them cluster.tls or none"

// translate turns what crypto/tls says into words for people. What it does not
// know it passes on.
func translate(me *credential, addr string, err error) error {
	var (
		bad     *tls.CertificateVerificationError
		unknown x509.UnknownAuthorityError
		plain   tls.RecordHeaderError
	)
	refused := func(local bool, reason string) error {
		return &RefusedError{Addr: addr, Reason: reason, Local: local}
	}
	switch {
	case errors.As(err, &bad) && errors.As(err, &unknown) && len(bad.UnverifiedCertificates) > 0:
		return refused(true, me.stranger(bad.UnverifiedCertificates[0]))
	case errors.As(err, &bad):
		return refused(true, "its certificate is not a node's of this cluster: "+bad.Err.Error())
	case errors.Is(err, errNoProtocol):
		return refused(true, err.Error())
	case errors.As(err, &plain):
		return refused(true, "it does not speak TLS: it is no quorate node, or one without cluster.secret")
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		switch alert := op.Err.Error(); {
		case strings.Contains(alert, "unknown certificate authority"):
			return refused(false, otherSecret)
		case strings.Contains(alert, "no application protocol"):
			return refused(false, "it does not know the protocol: its quorate is of another version")
		case strings.Contains(alert, "protocol version"):
			return refused(false, "it does not speak TLS 1.3: it is no quorate node")
		case strings.Contains(alert, "bad certificate"):
			return refused(false, "it does not accept this node's certificate: compare scope and cluster.secret of both")
		}
	}
	return fmt.Errorf("handshake with %s: %w", addr, err)
}

// stranger says why a certificate is from none of the accepted CAs. Scope is in
// the CA's name, so another scope with the same secret fails here too.
func (c *credential) stranger(cert *x509.Certificate) string {
	peer, err := identityOf(cert)
	for _, ca := range c.cas {
		if err == nil && peer.scope != c.id.scope &&
			ca.cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature) == nil {
			return fmt.Sprintf("its scope is %q, this node's is %q: give both node files the same scope", peer.scope, c.id.scope)
		}
	}
	return otherSecret
}
