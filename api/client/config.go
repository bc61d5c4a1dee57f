package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/quorate/quorate/api"
)

// What the API answers about the configuration and restarts.
type (
	Config    = api.Config
	Restarted = api.Restarted
)

// CodeInvalid is the code of a Problem with what was sent.
const CodeInvalid = api.CodeInvalid

// restartWithin bounds a restart: the server waits 30 s at most, and so does the node it asks.
const restartWithin = 70 * time.Second

// Config is the replicated configuration, its version version, or the present one for 0.
func (c *Client) Config(ctx context.Context, version uint64) (Config, error) {
	path := "/v1/config"
	if version > 0 {
		path += "?version=" + strconv.FormatUint(version, 10)
	}
	var out Config
	return out, c.do(ctx, http.MethodGet, path, nil, &out)
}

// ConfigHistory lists the versions that are remembered, oldest first.
func (c *Client) ConfigHistory(ctx context.Context) ([]Config, error) {
	var out []Config
	return out, c.do(ctx, http.MethodGet, "/v1/config/history", nil, &out)
}

// PutConfig replaces version by doc, JSON. It is refused if somebody replaced that version meanwhile.
func (c *Client) PutConfig(ctx context.Context, version uint64, doc []byte) (Config, error) {
	var out Config
	return out, c.do(ctx, http.MethodPut, "/v1/config?version="+strconv.FormatUint(version, 10), json.RawMessage(doc), &out)
}

// Restart restarts the Postgres of a node, with pending only if a setting waits for that. It returns when it is back,
// within 30 s.
func (c *Client) Restart(ctx context.Context, node string, pending bool) (Restarted, error) {
	ctx, stop := context.WithTimeout(ctx, restartWithin)
	defer stop()
	var out Restarted
	return out, c.do(ctx, http.MethodPost, "/v1/restart", api.RestartRequest{Node: node, Pending: pending}, &out)
}
