package interop

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// killPoints is at how many moments of an install and an upgrade the daemon is
// killed.
const killPoints = 12

func TestADaemonKilledWhileItInstallsOrUpgradesHasTheOldOrTheNew(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	put := func(tag string) {
		layer := rt.GzipLayer(t, rt.File{Name: "version", Content: tag}, rt.File{Name: "ballast", Content: strings.Repeat(tag+" ballast\n", 1<<20)})
		reg.Put(t, "foo/bar", tag, rt.Plugin{Config: rt.Config(map[string]any{"Description": tag}), Layers: []rt.Layer{layer}})
	}
	put("1")
	put("2")
	d := daemontest.Start(t)
	c, err := client.New(client.Options{Host: d.Host()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	first, second := reg.Host+"/foo/bar:1", reg.Host+"/foo/bar:2"
	pull := func(ctx context.Context) error {
		_, err := c.Pull(ctx, first, outlet.PullOptions{}, nil)
		return err
	}
	upgrade := func(ctx context.Context) error {
		return c.Upgrade(ctx, first, second, outlet.UpgradeOptions{}, nil)
	}
	whole := func(t *testing.T) (description string) {
		t.Helper()
		report, err := c.Check(t.Context(), false)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range report.Problems {
			t.Errorf("after a kill: %+v", p)
		}
		p, err := c.Inspect(t.Context(), first)
		if errdefs.IsNotFound(err) {
			return ""
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{first: "1", second: "2"}[p.PluginReference]; p.Config.Description != want {
			t.Errorf("%s is described as %q", p.PluginReference, p.Config.Description)
		}
		return p.Config.Description
	}
	killed := func(t *testing.T, after time.Duration, f func(context.Context) error) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- f(t.Context()) }()
		<-time.After(after)
		d.Kill()
		<-done // it may have been in time
		d.Start()
	}
	began := time.Now()
	if err := pull(t.Context()); err != nil {
		t.Fatal(err)
	}
	took := time.Since(began)
	for i := range killPoints {
		t.Run(fmt.Sprintf("at %d of %d", i, killPoints), func(t *testing.T) {
			if err := c.Remove(t.Context(), first, true); err != nil {
				t.Fatal(err)
			}
			at := took * time.Duration(i) / (killPoints - 2)
			killed(t, at, pull)
			if whole(t) == "" {
				if err := pull(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			killed(t, at, upgrade)
			if whole(t) == "1" {
				if err := upgrade(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if got := whole(t); got != "2" {
				t.Errorf("in the end there is %q", got)
			}
		})
	}
	if err := c.Remove(t.Context(), first, true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Prune(t.Context()); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, time.Minute, func() error {
		return noFiles(d.Dir() + "/lib/content")
	})
}

// noFiles says whether there are files below dir.
func noFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			err = fmt.Errorf("%s is left", path)
		}
		return err
	})
}
