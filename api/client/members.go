package client

import (
	"context"
	"net/http"

	"github.com/quorate/quorate/api"
)

// What members are and how they come and go, see package api.
type (
	Member        = api.Member
	InitRequest   = api.InitRequest
	JoinRequest   = api.JoinRequest
	RemoveRequest = api.RemoveRequest
	Token         = api.Token
)

// Init has the daemon of this machine make a cluster of its node alone. It returns when that was begun; Status tells when the
// node is primary.
func (c *Client) Init(ctx context.Context, r InitRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/init", r, nil)
}

// Join has the daemon of this machine join a cluster, and returns when its node is a member.
func (c *Client) Join(ctx context.Context, r JoinRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/join", r, nil)
}

// Token is what another node joins with. It holds the cluster's secret.
func (c *Client) Token(ctx context.Context) (Token, error) {
	var out Token
	return out, c.do(ctx, http.MethodPost, "/v1/token", struct{}{}, &out)
}

// Members lists who belongs to the cluster, by name.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	var out []Member
	return out, c.do(ctx, http.MethodGet, "/v1/members", nil, &out)
}

// RemoveMember takes a member out; it returns when that is decided, not when it is done.
func (c *Client) RemoveMember(ctx context.Context, r RemoveRequest) error {
	return c.do(ctx, http.MethodPost, "/v1/members/remove", r, nil)
}
