package client

import (
	"context"
	"net/http"

	"github.com/outletd/outlet"
)

// Check has the daemon compare what it keeps with what is there, and returns
// what does not fit. With repair the daemon mends what can be mended without
// losing anything; each problem then says whether it was.
func (c *Client) Check(ctx context.Context, repair bool) (outlet.CheckReport, error) {
	method := http.MethodGet
	if repair {
		method = http.MethodPost
	}
	var report outlet.CheckReport
	resp, err := c.extension(ctx, request{method: method, path: "/system/check"})
	if err != nil {
		return report, err
	}
	return report, decode(resp, &report)
}
