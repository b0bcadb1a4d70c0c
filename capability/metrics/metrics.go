// Package metrics calls metrics plugins (manifest name MetricsCollector): they
// are told when to start and to stop scraping the host's metrics socket, as
// docs/spec/capabilities.md §7 has it.
//
// It serves no metrics.
package metrics

import (
	"context"
	"time"

	"github.com/outletd/outlet/capability"
)

// Name is what a metrics plugin has in its manifest; Type is the same in the
// configuration of a managed plugin.
const (
	Name = "MetricsCollector"
	Type = "docker.metricscollector/1.0"
)

// Methods, as they are called.
const (
	MethodStartMetrics = "MetricsCollector.StartMetrics"
	MethodStopMetrics  = "MetricsCollector.StopMetrics"
)

// Replayable says whether a method may be sent again although the plugin may
// have got it.
func Replayable(method string) bool {
	return method == MethodStartMetrics || method == MethodStopMetrics
}

// DefaultTimeout is the limit of a call that Options leave at zero.
const DefaultTimeout = 30 * time.Second

// Options change a client. The zero value is good.
type Options struct {
	// Timeout bounds each call, in addition to its context. Zero means
	// DefaultTimeout, a negative value no limit.
	Timeout time.Duration
}

// Client calls one metrics plugin. It is safe for concurrent use if its Caller
// is, and has no state.
type Client struct {
	caller  capability.Caller
	timeout time.Duration
}

// New returns a client that calls through c.
func New(c capability.Caller, o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	return &Client{caller: c, timeout: o.Timeout}
}

// Start tells the plugin that the socket serves metrics.
func (c *Client) Start(ctx context.Context) error { return c.call(ctx, MethodStartMetrics) }

// Stop tells the plugin that the socket goes away.
func (c *Client) Stop(ctx context.Context) error { return c.call(ctx, MethodStopMetrics) }

// call ignores the answer's body: for this capability the status decides, and
// plugins answer 200 with no body at all.
func (c *Client) call(ctx context.Context, method string) error {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	if err := c.caller.Call(ctx, method, nil, nil); err != nil {
		return capability.Refine(method, err)
	}
	return nil
}
