package client

import (
	"context"
	"net/http"
	"time"

	"github.com/quorate/quorate/api"
)

// What the API answers about acts on one node and about pauses.
type (
	Reloaded = api.Reloaded
	Reinited = api.Reinited
	Paused   = api.Paused
)

// Reload has a node read its file again.
func (c *Client) Reload(ctx context.Context, node string) (Reloaded, error) {
	var out Reloaded
	return out, c.do(ctx, http.MethodPost, "/v1/reload", api.ReloadRequest{Node: node}, &out)
}

// Reinit begins to replace the data directory of a standby by a new copy; the old one is kept. force: though
// commits may depend on the log there. It returns when that has begun, within 30 s.
func (c *Client) Reinit(ctx context.Context, node string, force bool) (Reinited, error) {
	ctx, stop := context.WithTimeout(ctx, restartWithin)
	defer stop()
	var out Reinited
	return out, c.do(ctx, http.MethodPost, "/v1/reinit", api.ReinitRequest{Node: node, Force: force}, &out)
}

// Pause stops all automatic decisions until Resume, and waits up to wait (30 s at most) until all nodes know.
func (c *Client) Pause(ctx context.Context, wait time.Duration) (Paused, error) {
	return c.setPause(ctx, "/v1/pause", wait, false)
}

// Resume ends a pause, and waits as Pause does. down: the primary's PostgreSQL runs nowhere, as the caller knows.
func (c *Client) Resume(ctx context.Context, wait time.Duration, down bool) (Paused, error) {
	return c.setPause(ctx, "/v1/resume", wait, down)
}

func (c *Client) setPause(ctx context.Context, path string, wait time.Duration, down bool) (Paused, error) {
	ctx, stop := context.WithTimeout(ctx, wait+answerWithin)
	defer stop()
	var out Paused
	return out, c.do(ctx, http.MethodPost, path, api.PauseRequest{Wait: wait.String(), PrimaryDown: down}, &out)
}
