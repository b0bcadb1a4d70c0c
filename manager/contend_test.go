package manager

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

func TestInstallsUpgradesAndRemovalsOfOneNameLeaveNothingTorn(t *testing.T) {
	f, reg, ref := upgradeFixture(t)
	other := reg.Host + "/foo/bar:2"
	r, err := f.Remote(t.Context(), ref, outlet.RemoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	of := func(to string) outlet.UpgradeOptions {
		o := outlet.UpgradeOptions{Granted: pidHost, Running: true}
		if to == ref {
			o.Granted = r.Privileges
		}
		return o
	}
	var wg sync.WaitGroup
	for who, do := range map[string]func(int) error{
		"install": func(int) error {
			_, err := f.Pull(ctx, ref, outlet.PullOptions{Granted: r.Privileges}, nil)
			return err
		},
		"upgrade": func(i int) error {
			to := []string{ref, other}[i%2]
			_, err := f.Upgrade(ctx, ref, to, of(to), nil)
			return err
		},
		"remove":  func(int) error { return f.Remove(ctx, ref, true) },
		"enable":  func(int) error { return f.Enable(ctx, ref, outlet.EnableOptions{}) },
		"collect": func(int) error { return f.CollectGarbage(ctx) },
	} {
		wg.Go(func() {
			for i := range 12 {
				err := do(i)
				if err != nil && (who == "collect" || !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) && !errdefs.IsAlreadyExists(err)) {
					t.Errorf("%s: %v", who, err)
				}
			}
		})
	}
	wg.Wait()
	if p, err := f.Inspect(ctx, ref); err == nil {
		want := map[string]string{ref: "old", other: "new"}[p.PluginReference]
		if got, _ := f.read(ref, "bin/plugin"); got != want || p.Config.PidHost != (want == "new") {
			t.Errorf("%s holds %q, %+v", p.PluginReference, got, p.Config)
		}
		if err := f.Remove(ctx, ref, true); err != nil {
			t.Error(err)
		}
	}
	f.clean()
}

func TestOddListsOfLayers(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	layer := rt.GzipLayer(t, rt.File{Name: "bin/plugin", Content: "x", Mode: 0o755})
	many := func(n int, last func(*rt.Descriptor)) func(string) {
		return func(repo string) {
			l := reg.PutBlob(t, repo, layer.MediaType, layer.Blob)
			var list []rt.Descriptor
			var diffs []string
			for range n {
				list, diffs = append(list, l), append(diffs, layer.DiffID)
			}
			last(&list[n-1])
			cfg := reg.PutBlob(t, repo, rt.TypeConfig, rt.JSON(t, rt.Config(map[string]any{"rootfs": map[string]any{"type": "layers", "diff_ids": diffs}})))
			// Such a list is refused by registries too: what matters is that we do.
			reg.PutManifest(t, repo, "1", rt.TypeManifest, rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": cfg, "layers": list}))
		}
	}
	same := func(*rt.Descriptor) {}
	f := newFixture(t, quick)
	for repo, c := range map[string]struct {
		put  func(string)
		want string
	}{
		"foo/twice":     {many(2, same), ""},
		"foo/lies":      {many(2, func(d *rt.Descriptor) { d.Size++ }), "and that it has"},
		"foo/long":      {many(1, func(d *rt.Descriptor) { d.Size++ }), "bytes"},
		"foo/short":     {many(1, func(d *rt.Descriptor) { d.Size-- }), "bytes"},
		"foo/thousands": {many(10000, same), "more than 1000 layers"},
	} {
		t.Run(repo, func(t *testing.T) {
			c.put(repo)
			ref := fmt.Sprintf("%s/%s:1", reg.Host, repo)
			_, err := f.Pull(t.Context(), ref, outlet.PullOptions{}, nil)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v", err)
			}
			if err == nil {
				if err := f.Remove(t.Context(), ref, false); err != nil {
					t.Error(err)
				}
			}
			f.clean()
		})
	}
}
