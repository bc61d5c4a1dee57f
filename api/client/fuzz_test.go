package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

// said answers every request with the same.
type said struct {
	status int
	body   []byte
}

func (s said) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: s.status, Status: http.StatusText(s.status), Header: http.Header{},
		Body: io.NopCloser(bytes.NewReader(s.body)), Request: r,
	}, nil
}

// asks are calls whose answers have all the forms that there are, each with what it got.
func asks(t *testing.T) map[string]func(*Client) (any, error) {
	ctx := t.Context()
	return map[string]func(*Client) (any, error){
		"/v1/status":     func(c *Client) (any, error) { return c.Status(ctx) },
		"/v1/explain":    func(c *Client) (any, error) { return c.Explain(ctx) },
		"/v1/switchover": func(c *Client) (any, error) { return c.AskSwitchover(ctx, "n2") },
		"/v1/failover":   func(c *Client) (any, error) { return c.Failover(ctx, "n2", "") },
		"/v1/reload":     func(c *Client) (any, error) { return c.Reload(ctx, "n2") },
		"/v1/reinit":     func(c *Client) (any, error) { return c.Reinit(ctx, "n2", false) },
		"/v1/pause":      func(c *Client) (any, error) { return c.Pause(ctx, 0) },
	}
}

// Whatever answers at the address, a refusal is an error, which is what the server said or names what was asked; what is taken is
// written and read as the same.
func FuzzAnswer(f *testing.F) {
	f.Add(200, []byte(`{}`))
	f.Add(200, []byte(`{"scope":"demo","epoch":3,"primary":"n1","nodes":[{"id":"id1","name":"n1","healthy":true}]}`))
	f.Add(200, []byte(`{"node":"n1","rule":"healthy","view":{"state":null,"seen":{"n1":{"age":1}}}}`))
	f.Add(409, []byte(`{"status":409,"code":"refused","message":"no"}`))
	f.Add(500, []byte(`null`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 999 {
			return
		}
		answering := func(s said) *Client { return &Client{base: "http://n1", http: &http.Client{Transport: s}} }
		for path, ask := range asks(t) {
			got, err := ask(answering(said{status, body}))
			var p Problem
			switch {
			case err == nil && status >= 400:
				t.Fatalf("%s was refused with %d %q, and that is taken for %+v", path, status, body, got)
			case errors.As(err, &p) && (status < 400 || p.Status == 0 || !json.Valid(body)):
				t.Fatalf("%s: %d %q is a problem: %+v", path, status, body, p)
			case err != nil && !errors.As(err, &p) && !strings.Contains(err.Error(), path):
				t.Fatalf("what was asked is not told: %v", err)
			case err != nil:
				continue
			}
			once, err := json.Marshal(got)
			if err != nil {
				t.Fatalf("%s: %q became %+v: %v", path, body, got, err)
			}
			again, err := ask(answering(said{200, once}))
			if err != nil {
				t.Fatalf("%s: %s can't be read again: %v", path, once, err)
			}
			if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%s: %s became %s, %v", path, once, twice, err)
			}
		}
	})
}
