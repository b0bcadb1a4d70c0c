//go:build linux

package main

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/sdk"
	"github.com/outletd/outlet/sdk/sdktest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

func TestConforms(t *testing.T) {
	testutil.Need(t, testutil.Root)
	d, err := openDriver(filepath.Join(t.TempDir(), "state"))
	if err != nil {
		t.Fatal(err)
	}
	before := links(t)
	sdktest.Run(t, sdktest.Options{
		Addr:       sdktest.Serve(t, "bridgenet", sdk.Plugin{Network: d}),
		Implements: []string{"NetworkDriver"},
		Join:       true,
	})
	if after := links(t); after != before {
		t.Errorf("%d links before, %d after", before, after)
	}
	if len(d.networks) != 0 {
		t.Errorf("networks are left: %v", d.networks)
	}
}

func links(t *testing.T) int {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
