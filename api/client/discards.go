package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/quorate/quorate/api"
)

// Discard is log that a node discarded; see package api.
type Discard = api.Discard

// CodeNotFound is the code of a Problem that there is no such thing.
const CodeNotFound = api.CodeNotFound

// Discards lists all that were recorded, the dismissed ones too.
func (c *Client) Discards(ctx context.Context) ([]Discard, error) {
	var out []Discard
	return out, c.do(ctx, http.MethodGet, "/v1/discards", nil, &out)
}

// DismissDiscard says that somebody looked at the discard: status stops showing it. Its evidence stays.
func (c *Client) DismissDiscard(ctx context.Context, id string) error {
	return c.do(ctx, http.MethodPost, "/v1/discards/"+url.PathEscape(id)+"/dismiss", struct{}{}, nil)
}
