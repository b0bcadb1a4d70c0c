package client

import (
	"context"
	"net/http"

	"github.com/outletd/outlet"
)

// DiskUsage says what the daemon keeps on disk, and which plugin has it.
func (c *Client) DiskUsage(ctx context.Context) (outlet.DiskUsage, error) {
	var u outlet.DiskUsage
	resp, err := c.extension(ctx, request{method: http.MethodGet, path: "/system/df"})
	if err != nil {
		return u, err
	}
	return u, decode(resp, &u)
}

// Prune has the daemon remove what nothing needs: content that no plugin uses,
// and downloads that broke off, which a later one would have gone on with.
func (c *Client) Prune(ctx context.Context) (outlet.Pruned, error) {
	var p outlet.Pruned
	resp, err := c.extension(ctx, request{method: http.MethodPost, path: "/system/prune"})
	if err != nil {
		return p, err
	}
	return p, decode(resp, &p)
}
