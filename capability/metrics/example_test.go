package metrics_test

import (
	"context"
	"log"

	"github.com/outletd/outlet/capability/metrics"
	"github.com/outletd/outlet/plugins"
)

// Each plugin is told that there are metrics when it becomes active.
func Example() {
	err := plugins.Default().Handle(context.Background(), metrics.Name, func(ctx context.Context, _ string, c *plugins.Client) error {
		return metrics.New(c.Caller(), metrics.Options{}).Start(ctx)
	})
	if err != nil {
		log.Print(err)
	}
}
