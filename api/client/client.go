// Package client speaks to a node's API, over its unix socket or over TCP with the admin token.
//
// It must never need consensus or Postgres: the command line and the lab use it from outside, as anybody can.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/quorate/quorate/api"
	"github.com/quorate/quorate/failover"
	"github.com/quorate/quorate/fsm"
)

// What the API answers; see package api.
type (
	NodeID      = fsm.NodeID
	Status      = api.Status
	NodeStatus  = api.NodeStatus
	Loss        = api.Loss
	Explanation = api.Explanation
	Phase       = api.Phase
	Switchover  = api.Switchover
	Failover    = api.Failover
	Problem     = api.Problem
	Report      = failover.Report
)

// The stages of a Switchover and the codes of a Problem that callers tell apart.
const (
	SwitchoverAsked   = api.Asked
	SwitchoverBegun   = api.Begun
	SwitchoverDone    = api.Done
	SwitchoverDropped = api.Dropped

	RuleAcceptedLoss = api.RuleAcceptedLoss

	CodeRefused  = api.CodeRefused
	CodeNoQuorum = api.CodeNoQuorum
)

// SocketName is the unix socket's name in a node's cluster.data_dir.
const SocketName = api.SocketName

// ErrUnreachable says that nobody answers at the address: the daemon does not run, or not there.
var ErrUnreachable = errors.New("no daemon answers")

const (
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 8 << 20
	// answerWithin bounds a request beyond what it asks the server to wait.
	answerWithin = 15 * time.Second
)

// Client asks one node. It may be used by any goroutine.
type Client struct {
	http  *http.Client
	base  string
	token string
}

// Unix asks the daemon of this machine whose socket is at path.
func Unix(path string) *Client {
	return dialing("http://quorate", nil, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	})
}

// TCP asks the node whose restapi listens at addr, host:port. token may be empty for what changes nothing.
func TCP(addr, token string) *Client { return TLS(addr, token, nil) }

// TLS is TCP for a node that may serve HTTPS: then its address begins with https://, and config, if not nil, says whom to
// trust and what certificate to show.
func TLS(addr, token string, config *tls.Config) *Client {
	host, secure := strings.CutPrefix(addr, "https://")
	base := "http://" + host
	if secure {
		base = "https://" + host
	}
	c := dialing(base, config, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", host)
	})
	c.token = token
	return c
}

func dialing(base string, config *tls.Config, dial func(context.Context) (net.Conn, error)) *Client {
	return &Client{base: base, http: &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true, // A node that is killed must not be asked over the connection of before.
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
		TLSClientConfig:   config,
	}}}
}

// Status is the whole cluster as the leader sees it, or this node when there is none to ask.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var out Status
	return out, c.do(ctx, http.MethodGet, "/v1/status", nil, &out)
}

// Explain is what the leader would do now, and why.
func (c *Client) Explain(ctx context.Context) (Explanation, error) {
	var out Explanation
	return out, c.do(ctx, http.MethodGet, "/v1/explain", nil, &out)
}

// AskSwitchover asks for another primary: the node called to, or the best standby. It returns before that happens.
func (c *Client) AskSwitchover(ctx context.Context, to string) (Switchover, error) {
	var out Switchover
	return out, c.do(ctx, http.MethodPost, "/v1/switchover", api.SwitchoverRequest{To: to}, &out)
}

// Switchover tells what became of asked, waiting up to wait (30 s at most) for its end.
func (c *Client) Switchover(ctx context.Context, asked Switchover, wait time.Duration) (Switchover, error) {
	q := url.Values{"id": {asked.ID}, "epoch": {strconv.FormatUint(uint64(asked.Epoch), 10)}}
	if wait > 0 {
		q.Set("wait", wait.String())
	}
	ctx, stop := context.WithTimeout(ctx, wait+answerWithin)
	defer stop()
	var out Switchover
	err := c.do(ctx, http.MethodGet, "/v1/switchover?"+q.Encode(), nil, &out)
	out.From = asked.From
	return out, err
}

// failoverWithin is longer than the server waits for a failover to end.
const failoverWithin = 40 * time.Second

// Failover makes the node to primary and returns when it serves. accept is the token of a refusal that said what would be lost, or
// empty.
func (c *Client) Failover(ctx context.Context, to, accept string) (Failover, error) {
	ctx, stop := context.WithTimeout(ctx, failoverWithin)
	defer stop()
	var out Failover
	return out, c.do(ctx, http.MethodPost, "/v1/failover", api.FailoverRequest{To: to, AcceptDataLoss: accept}, &out)
}

// Stop asks the daemon for an orderly end. Only the unix socket takes it.
func (c *Client) Stop(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "/v1/stop", struct{}{}, nil)
}

// Health asks a health path such as /primary and returns its status code.
func (c *Client) Health(ctx context.Context, path string) (int, error) {
	ctx, stop := context.WithTimeout(ctx, answerWithin)
	defer stop()
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, resp.Body.Close()
}

// do sends in as JSON, unless it is nil, and reads the answer into out, unless that is nil. What the server refused is a
// Problem.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	ctx, stop := bounded(ctx)
	defer stop()
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("read the answer to %s: %w", path, err)
	}
	if resp.StatusCode >= http.StatusBadRequest {
		var p Problem
		if err := json.Unmarshal(body, &p); err != nil || p.Status == 0 {
			return fmt.Errorf("%s %s: %s", method, path, resp.Status)
		}
		return p
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("decode the answer to %s: %w", path, err)
	}
	return nil
}

// bounded gives a context without a deadline one.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, answerWithin)
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, fmt.Errorf("encode the request to %s: %w", path, err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("make the request to %s: %w", path, err)
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return nil, fmt.Errorf("%w: %w", ErrUnreachable, op)
	}
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", path, err)
	}
	return resp, nil
}
