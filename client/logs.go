package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/outletd/outlet"
)

// Logs calls each with the lines a plugin printed, oldest first. With
// o.Follow it goes on until ctx ends, the plugin is removed, or each gives an
// error, which Logs returns as it is.
func (c *Client) Logs(ctx context.Context, name string, o outlet.LogOptions, each func(outlet.LogEntry) error) error {
	if _, err := pluginPath(name, ""); err != nil {
		return err
	}
	q := url.Values{"plugin": {name}}
	if o.Tail >= 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	if o.Follow {
		q.Set("follow", "1")
	}
	setTime(q, "since", o.Since)
	setTime(q, "until", o.Until)
	resp, err := c.extension(ctx, request{method: http.MethodGet, path: "/plugins/logs", query: q})
	if err != nil {
		return err
	}
	defer resp.Body.Close() // only read from
	return lines(ctx, resp.Body, func(line []byte) error {
		var e outlet.LogEntry
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("the daemon's answer is not a line of a log: %w", err)
		}
		return each(e)
	})
}

// setTime adds t as seconds and nanoseconds since 1970, the form the whole API
// knows; the zero time is left out.
func setTime(q url.Values, key string, t time.Time) {
	if !t.IsZero() {
		q.Set(key, fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()))
	}
}
