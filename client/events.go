package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/outletd/outlet"
)

// EventOptions select events. The zero value is all that happen from now on.
type EventOptions struct {
	// Since adds events that happened before, as far as the daemon still has
	// them. Zero adds none.
	Since time.Time
	// Until ends the stream; one in the past reads only what is kept. Zero
	// never ends it.
	Until time.Time
	// Filters are keys of the Engine API (type, event, scope, plugin, volume,
	// …) and their values: one value of every key must fit.
	Filters map[string][]string
}

// Events calls each with the daemon's events until ctx ends, o.Until has come,
// or each gives an error, which Events returns as it is.
func (c *Client) Events(ctx context.Context, o EventOptions, each func(outlet.Message) error) error {
	q := filters(o.Filters)
	if q == nil {
		q = url.Values{}
	}
	setTime(q, "since", o.Since)
	setTime(q, "until", o.Until)
	resp, err := c.engine(ctx, request{method: http.MethodGet, path: "/events", query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close() // only read from
	return lines(ctx, resp.Body, func(line []byte) error {
		var m outlet.Message
		// A daemon may frame its events with record separators.
		if err := json.Unmarshal(bytes.TrimPrefix(line, []byte{0x1e}), &m); err != nil {
			return fmt.Errorf("the daemon's answer is not an event: %w", err)
		}
		return each(m)
	})
}
