package sdktest

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/outletd/outlet/sdk"
)

// Serve serves a plugin on a socket until the test ends, and returns its address.
// What goes wrong at the end fails the test.
func Serve(t testing.TB, name string, p sdk.Plugin) string {
	t.Helper()
	// The directories of tests have names that are too long for sockets.
	dir, err := os.MkdirTemp("", "st") //nolint:usetesting // as said
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	ready := make(chan string, 1)
	go func() {
		served <- sdk.Serve(ctx, p, sdk.Options{
			Config: sdk.Config{Name: name, SocketDir: dir},
			Ready:  func(addr string) { ready <- addr },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	select {
	case addr := <-ready:
		return addr
	case err := <-served:
		served <- nil
		t.Fatal(err)
	case <-time.After(10 * time.Second):
		t.Fatal("the plugin is not ready after 10 s")
	}
	return ""
}
