package client

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

func TestPullTellsItsProgressAndItsErrorsClass(t *testing.T) {
	var asked, auth, body string
	last := `{"errorDetail":{"code":404,"message":"gone"},"error":"gone"}`
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		asked, auth, body = r.Method+" "+r.URL.String(), r.Header.Get("X-Registry-Auth"), string(b)
		w.Header().Set("Docker-Plugin-Name", "x:1")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, `{"status":"Pulling from foo/bar","id":"1"}`+"\r\n"+`{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"abc"}`+"\r\n"+last+"\r\n")
	})
	var got []outlet.Progress
	o := outlet.PullOptions{Name: "x:1", Digest: "sha256:a", Granted: outlet.Privileges{{Name: "network", Value: []string{"host"}}}}
	o.Auth, o.Platform = outlet.RegistryAuth{Username: "me"}, "arm64"
	name, err := c.Pull(t.Context(), "foo/bar:1", o, func(p outlet.Progress) { got = append(got, p) })
	if !errors.Is(err, errdefs.ErrNotFound) || err.Error() != "gone" || name != "x:1" {
		t.Errorf("got %q, %v", name, err)
	}
	want := []outlet.Progress{{ID: "1", Status: "Pulling from foo/bar", Message: true}, {ID: "abc", Status: "Downloading", Current: 1, Total: 2}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if asked != "POST /outlet/v1/plugins/pull?digest=sha256%3Aa&name=x%3A1&platform=arm64&remote=foo%2Fbar%3A1" {
		t.Errorf("asked %s", asked)
	}
	if raw, err := base64.URLEncoding.DecodeString(auth); err != nil || string(raw) != `{"username":"me"}` {
		t.Errorf("auth %q, %v", raw, err)
	}
	if body != `[{"Name":"network","Description":"","Value":["host"]}]` {
		t.Errorf("body %s", body)
	}
	last = ""
	if _, err := c.Pull(t.Context(), "foo/bar:1", o, nil); err != nil {
		t.Error(err)
	}
}

func TestPushReturnsWhatItMade(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/outlet/v1/plugins/push" || r.URL.Query().Get("plugin") != "foo/bar" {
			t.Errorf("asked %s", r.URL)
		}
		fmt.Fprint(w, `{"progressDetail":{},"aux":{"Tag":"latest","Digest":"sha256:x","Size":5}}`+"\r\n")
	})
	got, err := c.Push(t.Context(), "foo/bar", outlet.RemoteOptions{}, nil)
	if err != nil || got != (outlet.Pushed{Tag: "latest", Digest: "sha256:x", Size: 5}) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestUpgradeOfAnEnabledPluginHasToBeAskedFor(t *testing.T) {
	var asked []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.String())
		if strings.HasSuffix(r.URL.Path, "/json") {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `{"Name":"foo/bar:latest","Enabled":true}`)
		}
	})
	if err := c.Upgrade(t.Context(), "foo/bar", "", outlet.UpgradeOptions{}, nil); !errdefs.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	asked = nil
	if err := c.Upgrade(t.Context(), "foo/bar", "foo/bar:2", outlet.UpgradeOptions{Running: true, WhenIdle: true, Digest: "d"}, nil); err != nil {
		t.Error(err)
	}
	if len(asked) != 1 || asked[0] != "/outlet/v1/plugins/upgrade?digest=d&plugin=foo%2Fbar&remote=foo%2Fbar%3A2&when-idle=1" {
		t.Errorf("asked %q", asked)
	}
}

func TestRemoteAndLogin(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch {
		case strings.HasSuffix(r.URL.Path, "/auth"):
			b, _ := io.ReadAll(r.Body) // what is missing is missed below
			if string(b) != `{"username":"u","password":"p"}` {
				w.WriteHeader(http.StatusUnauthorized)
				fmt.Fprint(w, `{"message":"no"}`)
				return
			}
			fmt.Fprint(w, `{"Status":"Login Succeeded","IdentityToken":"t"}`)
		case strings.HasSuffix(r.URL.Path, "/plugins/remote"):
			fmt.Fprint(w, `{"Reference":"docker.io/foo/bar:latest","Digest":"sha256:x","Privileges":[{"Name":"network","Value":["host"]}],"Size":7}`)
		}
	})
	p, err := c.Remote(t.Context(), "foo/bar", outlet.RemoteOptions{})
	if err != nil || p.Digest != "sha256:x" || p.Size != 7 || len(p.Privileges) != 1 {
		t.Errorf("got %+v, %v", p, err)
	}
	if token, err := c.Login(t.Context(), outlet.RegistryAuth{Username: "u", Password: "p"}); err != nil || token != "t" {
		t.Errorf("got %q, %v", token, err)
	}
	if _, err := c.Login(t.Context(), outlet.RegistryAuth{}); !errdefs.IsUnauthorized(err) {
		t.Errorf("got %v", err)
	}
	o := outlet.RemoteOptions{Header: map[string][]string{"Authorization": {"x"}}}
	if _, err := c.Remote(t.Context(), "foo/bar", o); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a header that is not passed on: %v", err)
	}
}
