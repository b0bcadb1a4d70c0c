package manager

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

func TestEachPlatformJoinsTheIndex(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	ref := reg.Host + "/foo/bar:1"
	// Each platform is pushed from a machine of its own.
	push := func(description, platform string) (outlet.Pushed, error) {
		f := newFixture(t, quick)
		f.create(ref, func(c *outlet.Config) { c.Description = description })
		return f.Push(t.Context(), ref, outlet.RemoteOptions{Platform: platform}, nil)
	}
	descriptions := func(want map[string]string) {
		t.Helper()
		f := newFixture(t, quick)
		for platform, description := range want {
			r, err := f.Remote(t.Context(), ref, outlet.RemoteOptions{Platform: platform})
			if err != nil || r.Config.Description != description || r.Index == "" {
				t.Errorf("for %s there is %q in %s, %v", platform, r.Config.Description, r.Index, err)
			}
		}
	}

	if _, err := push("none", "plan9/amd64"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a platform that plugins cannot have: %v", err)
	}
	arm, err := push("arm", "linux/arm64")
	if err != nil {
		t.Fatal(err)
	}
	// The only platform there is is not this machine's.
	f := newFixture(t, quick)
	if _, err := f.Remote(t.Context(), ref, outlet.RemoteOptions{Platform: "linux/amd64"}); err == nil || !strings.Contains(err.Error(), "it has linux/arm64") {
		t.Errorf("a foreign index: %v", err)
	}
	both, err := push("amd", "linux/amd64")
	if err != nil {
		t.Fatal(err)
	}
	if both.Tag != "1" || both.Digest == arm.Digest {
		t.Errorf("pushed %+v, then %+v", arm, both)
	}
	descriptions(map[string]string{"linux/arm64": "arm", "linux/amd64": "amd"})
	again, err := push("amd", "linux/amd64")
	if err != nil || again != both {
		t.Errorf("pushed again: %+v, %v", again, err)
	}
	if _, err := push("newer amd", "linux/amd64"); err != nil {
		t.Fatal(err)
	}
	descriptions(map[string]string{"linux/arm64": "arm", "linux/amd64": "newer amd"})
	if _, err := push("whole", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := push("other", "linux/arm64"); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "tag 1 names a plugin of which it does not say for what platform it is") {
		t.Errorf("a tag of a plugin for no platform: %v", err)
	}
	if p, err := push("whole", "linux/amd64"); err != nil || p.Digest == both.Digest {
		t.Errorf("the plugin itself becomes one of an index: %+v, %v", p, err)
	}
	descriptions(map[string]string{"linux/amd64": "whole"})
}

// What others make of the index: it is one for them, too.
func TestTheIndexIsOneForOthers(t *testing.T) {
	skopeo := testutil.Program(t, testutil.Skopeo)
	reg := rt.Start(t, rt.Options{})
	ref := reg.Host + "/foo/bar:1"
	f := newFixture(t, quick)
	f.create(ref)
	for _, platform := range []string{"linux/amd64", "linux/arm/v7"} {
		if _, err := f.Push(t.Context(), ref, outlet.RemoteOptions{Platform: platform}, nil); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(skopeo, "copy", "--all", "--preserve-digests", "--src-tls-verify=false", "docker://"+ref, "dir:"+t.TempDir()+"/copy")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("skopeo: %v\n%s", err, out)
	}
	raw, err := exec.Command(skopeo, "inspect", "--raw", "--tls-verify=false", "docker://"+ref).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"architecture":"amd64"`, `"architecture":"arm"`, `"variant":"v7"`, "manifest.list.v2+json"} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("there is no %s in %s", want, raw)
		}
	}
}
