//go:build linux

package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	for _, name := range links(t) {
		if !slices.Contains(before, name) {
			t.Errorf("link %s is left", name)
		}
	}
	if len(d.networks) != 0 {
		t.Errorf("networks are left: %v", d.networks)
	}
}

// links are the links that look like the driver's. Others come and go with
// whoever else uses the machine.
func links(t *testing.T) []string {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, l := range all {
		for _, name := range []string{bridgeOf(noID), portOf(noID), peerOf(noID)} {
			if strings.HasPrefix(l.Name, name[:2]) {
				ours = append(ours, l.Name)
			}
		}
	}
	return ours
}

const noID = "0000000000000000"
