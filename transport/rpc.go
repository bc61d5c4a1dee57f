package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/hashicorp/go-hclog"
)

// Codes that RPC itself answers with; all others are the handlers'.
const (
	CodeUnknownCall = "unknown-call" // the peer has no handler of this name
	CodeFailed      = "failed"       // the handler's error carried no code
	CodeTooLarge    = "too-large"    // the handler's result is longer than MaxRPC
)

// RemoteError is a handler's error as the caller gets it. A handler that returns
// one (also wrapped) chooses the Code, on which callers may branch.
type RemoteError struct{ Code, Message string }

func (e *RemoteError) Error() string { return fmt.Sprintf("%s (%s)", e.Message, e.Code) }

// Handler answers one call. ctx ends when the caller gives up, disconnects or RPC
// closes. It runs in a goroutine of its connection, many at a time. peer.ClusterID
// may be NewCluster: a handler that is not for strangers must check it.
type Handler func(ctx context.Context, peer Peer, req []byte) ([]byte, error)

// RPC makes and serves calls over ProtoRPC: one frame there, one frame back, one
// call at a time on a connection and as many connections as there are calls at
// once. All methods may be called from any goroutine.
type RPC struct {
	mux      *Mux
	logger   hclog.Logger
	listener net.Listener
	dial     func(ctx context.Context, target string) (*Conn, error)
	client   client

	ctx     context.Context // of handlers and background dials
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu        sync.Mutex
	handlers  map[string]Handler
	strangers []*Conn // that are served, the oldest first
}

// NewRPC serves calls on m until Close. Register handlers at once: an unknown name
// is answered with CodeUnknownCall.
func NewRPC(m *Mux, logger hclog.Logger) *RPC {
	r := &RPC{mux: m, logger: logger, listener: m.Accept(ProtoRPC), handlers: map[string]Handler{}}
	r.dial = func(ctx context.Context, addr string) (*Conn, error) { return m.Dial(ctx, ProtoRPC, addr) }
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.client = client{rpc: r, idle: map[string][]*clientConn{}, busy: map[*clientConn]struct{}{}, warm: map[string]bool{}}
	r.running.Add(1)
	go r.serve()
	return r
}

// DialBy makes calls go to targets that dial understands, in place of addresses: who
// calls a node by its id gets an answer of that node or none. Set it before the first
// call.
func (r *RPC) DialBy(dial func(ctx context.Context, target string) (*Conn, error)) { r.dial = dial }

// HandleRPC registers the handler of a name. A second one for a name panics.
func (r *RPC) HandleRPC(name string, h Handler) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.handlers[name] != nil {
		panic("transport: two handlers for call " + name)
	}
	r.handlers[name] = h
}

// Close ends serving and all standing connections, cancels the handlers' contexts
// and waits until they returned. Calls under way fail.
func (r *RPC) Close() error {
	r.cancel()
	err := r.listener.Close()
	r.client.close()
	r.running.Wait()
	return err
}

func (r *RPC) serve() {
	defer r.running.Done()
	for {
		conn, err := r.listener.Accept()
		if err != nil {
			return
		}
		c := conn.(*Conn)
		limits := r.meet(c)
		r.running.Add(1)
		go func() {
			defer r.running.Done()
			defer r.part(c)
			r.serveConn(c, limits)
		}()
	}
}

// serveConn answers the calls of one connection one after the other. The reader
// runs ahead of the handler only to notice that the caller has gone.
func (r *RPC) serveConn(conn *Conn, may limits) {
	ctx, cancel := context.WithCancel(r.ctx)
	frames := make(chan []byte)
	var reader sync.WaitGroup
	reader.Add(1)
	go func() {
		defer reader.Done()
		defer close(frames)
		defer cancel()
		for {
			err := may.beforeRead(conn)
			var frame []byte
			if err == nil {
				frame, err = readFrame(conn, may.frame)
			}
			if err != nil {
				if errors.Is(err, ErrTooLarge) {
					r.logger.Warn("closing a connection with an oversized call", "peer", conn.RemoteAddr(), "error", err)
				}
				return
			}
			select {
			case frames <- frame:
			case <-ctx.Done():
				return
			}
		}
	}()
	for frame := range frames {
		answer, err := r.answer(ctx, conn, frame)
		if err == nil {
			err = may.beforeWrite(conn)
		}
		if err == nil {
			err = writeFrame(conn, answer)
		}
		if err != nil {
			r.logger.Debug("closing a calling connection", "peer", conn.RemoteAddr(), "error", err)
			break
		}
	}
	cancel()
	_ = conn.Close()
	reader.Wait()
}

func (r *RPC) answer(ctx context.Context, conn *Conn, frame []byte) ([]byte, error) {
	q, err := decodeRequest(frame)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	handler := r.handlers[q.name]
	r.mu.Unlock()
	if handler == nil {
		return encodeError(&RemoteError{Code: CodeUnknownCall, Message: fmt.Sprintf("this node does not know the call %q", q.name)}), nil
	}
	if q.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.timeout)
		defer cancel()
	}
	clusterID, nodeID := conn.Peer()
	result, err := handler(ctx, Peer{ClusterID: clusterID, NodeID: nodeID, Addr: conn.RemoteAddr().String(), Names: conn.names}, q.body)
	if err != nil {
		var coded *RemoteError
		if !errors.As(err, &coded) {
			coded = &RemoteError{Code: CodeFailed}
		}
		told := &RemoteError{Code: coded.Code, Message: err.Error()}
		if err == error(coded) {
			told.Message = coded.Message // its Error has the code too, which wrapping words may keep
		}
		return encodeError(told), nil
	}
	if len(result) >= MaxRPC {
		return encodeError(&RemoteError{Code: CodeTooLarge, Message: fmt.Sprintf("the answer to %q has %d bytes, at most %d", q.name, len(result), MaxRPC-1)}), nil
	}
	return encodeResult(result), nil
}
