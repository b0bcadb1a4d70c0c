package client

import (
	"context"
	"net/http"

	"github.com/outletd/outlet"
)

// Discover gives the v1 plugins that the daemon's host knows, whether they
// answer, and what they can do. The daemon asks each of them, which takes a few
// seconds where one does not answer.
func (c *Client) Discover(ctx context.Context) (outlet.V1Plugins, error) {
	var found outlet.V1Plugins
	resp, err := c.extension(ctx, request{method: http.MethodGet, path: "/discover"})
	if err != nil {
		return found, err
	}
	return found, decode(resp, &found)
}
