package client

import (
	"context"
	"net/http"
	"strconv"

	"github.com/quorate/quorate/api"
)

// The history of the cluster; see package api.
type (
	History    = api.History
	Assignment = api.Assignment
	Event      = api.Event
)

// The kinds of an Assignment that callers tell apart.
const (
	KindFirst = api.KindFirst
	KindAgain = api.KindAgain
)

// History is how the epochs came to be, oldest first, and the newest events.
func (c *Client) History(ctx context.Context) (History, error) {
	var out History
	return out, c.do(ctx, http.MethodGet, "/v1/history", nil, &out)
}

// HistoryOf is the report of one epoch. An unknown one is a Problem.
func (c *Client) HistoryOf(ctx context.Context, epoch uint64) (Assignment, error) {
	var out Assignment
	return out, c.do(ctx, http.MethodGet, "/v1/history/"+strconv.FormatUint(epoch, 10), nil, &out)
}
