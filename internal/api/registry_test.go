package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

// fakeRegistries does what a test says.
type fakeRegistries struct {
	remote  func(string, outlet.RemoteOptions) (outlet.RemotePlugin, error)
	pull    func(context.Context, string, outlet.PullOptions, func(outlet.Progress)) error
	upgrade func(string, string, outlet.UpgradeOptions, func(outlet.Progress)) error
	push    func(string, outlet.RemoteOptions, func(outlet.Progress)) error
	login   func(outlet.RegistryAuth) (string, error)
}

func (f *fakeRegistries) Remote(_ context.Context, ref string, o outlet.RemoteOptions) (outlet.RemotePlugin, error) {
	return f.remote(ref, o)
}

func (f *fakeRegistries) Pull(ctx context.Context, ref string, o outlet.PullOptions, p func(outlet.Progress)) (outlet.Plugin, error) {
	return outlet.Plugin{}, f.pull(ctx, ref, o, p)
}

func (f *fakeRegistries) Upgrade(_ context.Context, name, ref string, o outlet.UpgradeOptions, p func(outlet.Progress)) (outlet.Plugin, error) {
	return outlet.Plugin{}, f.upgrade(name, ref, o, p)
}

func (f *fakeRegistries) Push(_ context.Context, name string, o outlet.RemoteOptions, p func(outlet.Progress)) (outlet.Pushed, error) {
	return outlet.Pushed{}, f.push(name, o, p)
}

func (f *fakeRegistries) Login(_ context.Context, a outlet.RegistryAuth) (string, error) {
	return f.login(a)
}

const jsonType = "application/json"

func registryRig(t *testing.T, f *fakeRegistries) *rig {
	return newRig(t, func(c *Config) { c.Registries = f })
}

func TestProgressHasTheFormOfDockersClients(t *testing.T) {
	g := registryRig(t, &fakeRegistries{
		pull: func(_ context.Context, ref string, o outlet.PullOptions, tell func(outlet.Progress)) error {
			want := outlet.Privileges{{Name: "network", Value: []string{"host"}}}
			if ref != "foo/bar" || o.Name != "x/y" || !o.Granted.Equal(want) || o.Auth.Username != "me" || o.Header["X-Meta-A"][0] != "b" {
				t.Errorf("%q %+v", ref, o)
			}
			tell(outlet.Progress{ID: "latest", Status: "Pulling from foo/bar", Message: true})
			tell(outlet.Progress{Status: "Digest: sha256:x", Message: true})
			tell(outlet.Progress{ID: "0123456789ab", Status: "Waiting"})
			tell(outlet.Progress{ID: "0123456789ab", Status: "Downloading", Current: 5, Total: 10})
			return outlet.Errorf(errdefs.ErrNotFound, "gone <away>")
		},
		push: func(_ string, _ outlet.RemoteOptions, tell func(outlet.Progress)) error {
			tell(outlet.Progress{Pushed: &outlet.Pushed{Tag: "latest", Digest: "sha256:x", Size: 523}})
			return nil
		},
	})
	auth := base64.URLEncoding.EncodeToString([]byte(`{"username":"me"}`))
	const lines = `{"status":"Pulling from foo/bar","id":"latest"}` + "\r\n" +
		`{"status":"Digest: sha256:x"}` + "\r\n" +
		`{"status":"Waiting","progressDetail":{},"id":"0123456789ab"}` + "\r\n" +
		`{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"0123456789ab"}` + "\r\n"
	body := `[{"Name":"network","Description":"","Value":["host"]}]`
	a := g.do("POST", "/v1.51/plugins/pull?remote=foo/bar&name=x/y", jsonType, body, "X-Registry-Auth", auth, "X-Meta-A", "b")
	a.check(t, 200, jsonType, lines+`{"errorDetail":{"message":"gone <away>"},"error":"gone <away>"}`+"\r\n")
	if got := a.header.Get("Docker-Plugin-Name"); got != "x/y:latest" {
		t.Errorf("the name is %q", got)
	}
	a = g.do("POST", "/outlet/v1/plugins/pull?remote=foo/bar&name=x/y", jsonType, body, "X-Registry-Auth", auth, "X-Meta-A", "b")
	a.check(t, 200, jsonType, lines+`{"errorDetail":{"code":404,"message":"gone <away>"},"error":"gone <away>"}`+"\r\n")
	g.do("POST", "/v1.51/plugins/foo/bar/push", "", "").check(t, 200, jsonType, `{"progressDetail":{},"aux":{"Tag":"latest","Digest":"sha256:x","Size":523}}`+"\r\n")
}

func TestErrorsBeforeTheFirstLineAreStatuses(t *testing.T) {
	for want, class := range map[int]error{
		400: errdefs.ErrInvalidArgument, 401: errdefs.ErrUnauthenticated, 403: errdefs.ErrPermissionDenied, 404: errdefs.ErrNotFound,
		409: errdefs.ErrAlreadyExists, 500: errdefs.ErrInternal,
	} {
		err := outlet.Errorf(class, "no")
		g := registryRig(t, &fakeRegistries{
			remote:  func(string, outlet.RemoteOptions) (outlet.RemotePlugin, error) { return outlet.RemotePlugin{}, err },
			pull:    func(context.Context, string, outlet.PullOptions, func(outlet.Progress)) error { return err },
			upgrade: func(string, string, outlet.UpgradeOptions, func(outlet.Progress)) error { return err },
			push:    func(string, outlet.RemoteOptions, func(outlet.Progress)) error { return err },
			login:   func(outlet.RegistryAuth) (string, error) { return "", err },
		})
		for _, r := range [][3]string{
			{"GET", "/plugins/privileges?remote=foo/bar", ""},
			{"POST", "/plugins/pull?remote=foo/bar", "null"},
			{"POST", "/plugins/foo/bar/upgrade?remote=foo/bar", "[]"},
			{"POST", "/plugins/foo/bar/push", ""},
			{"POST", "/auth", "{}"},
			{"GET", "/outlet/v1/plugins/remote?remote=foo/bar", ""},
			{"POST", "/outlet/v1/plugins/upgrade?plugin=foo/bar", ""},
			{"POST", "/outlet/v1/plugins/push?plugin=foo/bar", ""},
		} {
			contentType := ""
			if r[2] != "" {
				contentType = jsonType
			}
			a := g.do(r[0], r[1], contentType, r[2])
			a.checkError(t, want, "no")
			if a.header.Get("Docker-Plugin-Name") != "" {
				t.Errorf("%s: a name comes with the error", r[1])
			}
		}
	}
}

func TestUpgradeSaysWhatItMayDo(t *testing.T) {
	var got outlet.UpgradeOptions
	var name, ref string
	g := registryRig(t, &fakeRegistries{upgrade: func(n, r string, o outlet.UpgradeOptions, _ func(outlet.Progress)) error {
		name, ref, got = n, r, o
		return nil
	}})
	g.do("POST", "/plugins/foo/bar/upgrade?remote=foo/bar:2", jsonType, "[]").check(t, 200, jsonType, "")
	if got.Running || got.WhenIdle || name != id(1) || ref != "foo/bar:2" {
		t.Errorf("the Engine's: %q %q %+v", name, ref, got)
	}
	g.do("POST", "/outlet/v1/plugins/upgrade?plugin=foo/bar&when-idle=1&digest=sha256:x&platform=arm64", jsonType, "null").check(t, 200, jsonType, "")
	if !got.Running || !got.WhenIdle || got.Digest != "sha256:x" || got.Platform != "arm64" || ref != "" {
		t.Errorf("ours: %q %+v", ref, got)
	}
	g.do("POST", "/plugins/nothing/upgrade?remote=x", jsonType, "[]").checkError(t, 404, `plugin "nothing" not found`)
}

func TestLogin(t *testing.T) {
	var got outlet.RegistryAuth
	g := registryRig(t, &fakeRegistries{login: func(a outlet.RegistryAuth) (string, error) {
		got = a
		return a.IdentityToken, nil
	}})
	g.do("POST", "/auth", jsonType, `{"username":"u","password":"p","serveraddress":"r"}`).check(t, http.StatusOK, jsonType, `{"Status":"Login Succeeded"}`+"\n")
	if diff := cmp.Diff(outlet.RegistryAuth{Username: "u", Password: "p", ServerAddress: "r"}, got); diff != "" {
		t.Error(diff)
	}
	g.do("POST", "/auth", "text/plain", `{"identitytoken":"t"}`).check(t, http.StatusOK, jsonType, `{"Status":"Login Succeeded","IdentityToken":"t"}`+"\n")
	g.do("POST", "/auth", jsonType, `{} {}`).checkError(t, 400, "invalid credentials: multiple JSON documents not allowed")
	if a := g.do("POST", "/auth", jsonType, `{`); a.status != 400 || !strings.Contains(a.body, "invalid credentials: invalid JSON: ") {
		t.Errorf("bad JSON: %+v", a)
	}
}

func TestPullEndsWhenItsClientHangsUp(t *testing.T) {
	ended := make(chan error, 1)
	begun := make(chan struct{})
	g := registryRig(t, &fakeRegistries{pull: func(ctx context.Context, _ string, _ outlet.PullOptions, tell func(outlet.Progress)) error {
		tell(outlet.Progress{Status: "x", Message: true})
		close(begun)
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	}})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://d/plugins/pull?remote=foo/bar", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := g.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close() // only begun to read
	<-begun
	cancel()
	if err := <-ended; err == nil {
		t.Error("it did not end")
	}
}
