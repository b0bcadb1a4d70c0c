package manager

import (
	"context"
	"testing"
	"time"

	"github.com/outletd/outlet"
)

func TestAPluginThatHangsItsHandlersCanBeDisabled(t *testing.T) {
	f := newFixture(t)
	f.handlersFor = 50 * time.Millisecond
	f.Handle("volumedriver", func(ctx context.Context, _ Ref) { <-ctx.Done() })
	f.create("sample")
	for range 2 {
		done := make(chan error, 1)
		go func() { done <- f.Enable(t.Context(), "sample", outlet.EnableOptions{}) }()
		if err := answered(t, "enable", done); err != nil {
			t.Fatal(err)
		}
		if err := f.Disable(t.Context(), "sample", false); err != nil {
			t.Fatal(err)
		}
	}
}
