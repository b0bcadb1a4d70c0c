package sdk

import (
	"context"

	"github.com/outletd/outlet/capability/metrics"
)

// MetricsSocket is where a plugin reads the host's metrics: it answers GET
// /metrics in Prometheus' text format.
const MetricsSocket = "/run/docker/metrics.sock"

// MetricsCollector is told when the host's metrics can be read
// (docs/spec/capabilities.md §7).
type MetricsCollector interface {
	// StartMetrics says that MetricsSocket answers. It can be called again
	// without a StopMetrics in between: the host was started again.
	StartMetrics(ctx context.Context) error
	// StopMetrics says that it will answer no more.
	StopMetrics(ctx context.Context) error
}

func (h *Handler) addMetrics(c MetricsCollector) {
	if c == nil {
		return
	}
	h.add(map[string]method{
		metrics.MethodStartMetrics: bare(func(ctx context.Context) (any, error) { return empty{}, c.StartMetrics(ctx) }),
		metrics.MethodStopMetrics:  bare(func(ctx context.Context) (any, error) { return empty{}, c.StopMetrics(ctx) }),
	})
}
