package client

import (
	"context"
	"net/http"

	"gearmesh.dev/api"
)

// NextMoves gives the pods that would be moved to better hosts next.
func (c *Client) NextMoves(ctx context.Context) (api.RebalancePlan, error) {
	var out api.RebalancePlan
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"v1", "rebalance"}, idempotent: true}, &out)
	return out, err
}

// History gives the specs that a service has had, the newest first.
func (c *Client) History(ctx context.Context, project, service api.Name) (api.ServiceHistory, error) {
	var out api.ServiceHistory
	path := append(collection(api.KindService, project), string(service), "history")
	_, err := c.do(ctx, request{method: http.MethodGet, path: path, idempotent: true}, &out)
	return out, err
}
