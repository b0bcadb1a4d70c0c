package interop

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outletd/outlet/internal/testutil/daemontest"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// sample is a plugin that is not meant to run.
func sample(t *testing.T, content string, more map[string]any) rt.Plugin {
	return rt.Plugin{Config: rt.Config(more), Layers: []rt.Layer{rt.GzipLayer(t, rt.File{Name: "bin/"}, rt.File{Name: "bin/plugin", Content: content, Mode: 0o755})}}
}

// moving stands before a registry in which a tag moves each time it was asked
// for.
func moving(t *testing.T, reg *rt.Registry, repo string, versions ...rt.Plugin) *rt.Proxy {
	front := rt.Before(t, reg)
	reg.Put(t, repo, "1", versions[0])
	front.On("GET /v2/"+repo+"/manifests/1", func(w http.ResponseWriter, r *http.Request, n int, next http.Handler) {
		next.ServeHTTP(w, r)
		reg.Put(t, repo, "1", versions[min(n, len(versions)-1)])
	})
	return front
}

func TestATagThatMovesAfterItsPrivilegesWereShown(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	same, more := map[string]any{"IpcHost": true}, map[string]any{"IpcHost": true, "PidHost": true}
	t.Run("outlet", func(t *testing.T) {
		d := daemontest.Start(t)
		front := moving(t, reg, "moves/ours", sample(t, "1", same), sample(t, "2", same))
		_, e, code := typing(t, d, "y\n", "install", "--disable", front.Host+"/moves/ours:1")
		want(t, "install", e, code, 1, " - host ipc namespace: [true]\n", "changed since it was looked at: it was sha256:")
		if got := d.Outlet("ls", "-q").OK(); got != "" {
			t.Errorf("it was installed all the same: %q", got)
		}
		base, _ := reg.Put(t, "moves/up", "base", sample(t, "0", nil))
		d.Outlet("install", "--disable", "--alias", "up", reg.Host+"/moves/up:base").OK()
		front = moving(t, reg, "moves/up", sample(t, "1", same), sample(t, "2", same))
		_, e, code = typing(t, d, "y\ny\n", "upgrade", "up", front.Host+"/moves/up:1")
		want(t, "upgrade", e, code, 1, " - host ipc namespace: [true]\n", "changed since it was looked at: it was sha256:")
		if got := d.Outlet("inspect", "-f", "{{.PluginReference}}", "up").OK(); got != reg.Host+"/moves/up:base" {
			t.Errorf("it is %q, no more %s", got, base.Digest)
		}
		d.Outlet("rm", "up").OK()
	})
	eachDocker(t, func(t *testing.T, d *daemontest.Daemon, docker func(...string) daemontest.Result) {
		front := moving(t, reg, "moves/theirs", sample(t, "1", same), sample(t, "2", more), sample(t, "3", more))
		ref := front.Host + "/moves/theirs:1"
		docker("plugin", "install", "--grant-all-permissions", "--disable", ref).Refused("incorrect privileges")
		if got := d.Outlet("ls", "-q").OK(); got != "" {
			t.Errorf("it was installed all the same: %q", got)
		}
		// What has the same privileges is what its user agreed to.
		docker("plugin", "install", "--grant-all-permissions", "--disable", ref).OK()
		docker("plugin", "rm", ref).OK()
	})
}

func TestPluginsByTheirDigest(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	repo := reg.Host + "/by/digest"
	one, _ := reg.Put(t, "by/digest", "1", sample(t, "one", nil))
	two, _ := reg.Put(t, "by/digest", "2", sample(t, "two", nil))
	image, _ := reg.Put(t, "by/image", "1", rt.Plugin{
		Config: map[string]any{"os": "linux"}, ConfigType: rt.TypeOCIImage, ManifestType: rt.TypeOCI,
		Layers: []rt.Layer{{Blob: rt.Gzip(t, rt.Tar(t, rt.File{Name: "f", Content: "x"})), MediaType: rt.TypeOCIGzip, DiffID: rt.Digest(rt.Tar(t, rt.File{Name: "f", Content: "x"}))}},
	})
	const named = "{{.Name}} {{.PluginReference}}"
	t.Run("outlet", func(t *testing.T) {
		d := daemontest.Start(t)
		for ref, name := range map[string]string{repo + "@" + one.Digest: repo + ":latest", repo + ":2@" + one.Digest: repo + ":2"} {
			if out := d.Outlet("install", "--disable", ref).OK(); !strings.Contains(out, "Digest: "+one.Digest) {
				t.Errorf("install of %s prints %q", ref, out)
			}
			if got := d.Outlet("inspect", "-f", named, name).OK(); got != name+" "+repo+"@"+one.Digest {
				t.Errorf("%s is %q", ref, got)
			}
		}
		d.Outlet("install", "--disable", repo+"@"+one.Digest).Refused("already exists")
		d.Outlet("install", "--disable", repo+"@"+rt.Digest([]byte("nothing"))).Refused("404")
		d.Outlet("upgrade", "--skip-remote-check", repo, repo+"@"+two.Digest).OK()
		if got := d.Outlet("inspect", "-f", named, repo).OK(); got != repo+":latest "+repo+"@"+two.Digest {
			t.Errorf("upgraded to %q", got)
		}
		d.Outlet("upgrade", repo).OK() // to what it is
		d.Outlet("push", repo+"@"+two.Digest).Refused("invalid name")
		if out := d.Outlet("push", repo).OK(); !strings.Contains(out, "latest: digest: "+two.Digest) {
			t.Errorf("push prints %q", out)
		}
		config := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(config, rt.JSON(t, rt.Config(nil)), 0o600); err != nil {
			t.Fatal(err)
		}
		d.Outlet("create", "-q", "--config", config, "--image", reg.Host+"/by/image@"+image.Digest, "of/image").OK()
		d.Outlet("rm", repo+"@"+two.Digest).Refused("not found")
		d.Outlet("rm", repo, repo+":2", "of/image").OK()
	})
	eachDocker(t, func(t *testing.T, d *daemontest.Daemon, docker func(...string) daemontest.Result) {
		docker("plugin", "install", "--grant-all-permissions", "--disable", repo+"@"+one.Digest).OK()
		name := d.Outlet("ls", "--format", "{{.Name}}").OK()
		if got := docker("plugin", "inspect", "-f", named, name).OK(); got != repo+":latest "+repo+"@"+one.Digest {
			t.Errorf("it is %q", got)
		}
		docker("plugin", "upgrade", "--grant-all-permissions", "--skip-remote-check", name, repo+"@"+two.Digest).OK()
		if got := docker("plugin", "inspect", "-f", "{{.PluginReference}}", name).OK(); got != repo+"@"+two.Digest {
			t.Errorf("upgraded to %q", got)
		}
		docker("plugin", "rm", name).OK()
	})
}
