package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   string
}

func (g *rig) do(method, target, contentType, body string, header ...string) answer {
	g.t.Helper()
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, "http://d"+target, r)
	if err != nil {
		g.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return g.send(req)
}

func (g *rig) send(req *http.Request) answer {
	g.t.Helper()
	res, err := g.client.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close() // read to its end
	b, err := io.ReadAll(res.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(b)}
}

func (a answer) check(t *testing.T, status int, contentType, body string) {
	t.Helper()
	if a.status != status || a.body != body || a.header.Get("Content-Type") != contentType {
		t.Errorf("got  %d %q %q\nwant %d %q %q", a.status, a.header.Get("Content-Type"), a.body, status, contentType, body)
	}
}

func (a answer) checkError(t *testing.T, status int, message string) {
	t.Helper()
	b, err := encode(errorBody{message})
	if err != nil {
		t.Fatal(err)
	}
	a.check(t, status, "application/json", string(b))
}

func (a answer) checkVersionHeaders(t *testing.T) {
	t.Helper()
	for key, want := range map[string]string{
		"Server": "Outlet/1.2.3 (linux)", "Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "false",
	} {
		if got := a.header.Get(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
}

func TestErrorsOfRequests(t *testing.T) {
	g := newRig(t)
	const (
		js      = "application/json"
		digest  = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
		pull    = "/plugins/pull?remote=foo/bar"
		noReg   = " is not supported by this version of Outlet: it does not talk to registries yet"
		noMedia = "malformed Content-Type header (): mime: no media type"
	)
	for name, c := range map[string]struct {
		method, target, contentType, body string
		status                            int
		message                           string
	}{
		"unknown path":                        {"GET", "/nonsense", "", "", 404, "page not found"},
		"unknown path below a version":        {"GET", "/v1.51/nonsense", "", "", 404, "page not found"},
		"unknown path below a bad version":    {"GET", "/v1.99/nonsense", "", "", 404, "page not found"},
		"unknown method":                      {"PUT", "/plugins", "", "", 404, "page not found"},
		"POST of what only GET has":           {"POST", "/info", "", "", 404, "page not found"},
		"trailing slash":                      {"GET", "/plugins/", "", "", 404, "page not found"},
		"trailing slash after a name":         {"DELETE", "/plugins/foo/bar/", "", "", 404, "page not found"},
		"root":                                {"GET", "/", "", "", 404, "page not found"},
		"only a version":                      {"GET", "/v1.51", "", "", 404, "page not found"},
		"a version that is none":              {"GET", "/v1.x/plugins", "", "", 404, "page not found"},
		"containers":                          {"GET", "/v1.51/containers/json", "", "", 404, "Outlet serves plugins and volumes; /containers is not part of it"},
		"one container":                       {"GET", "/containers/x/json", "", "", 404, "Outlet serves plugins and volumes; /containers is not part of it"},
		"networks":                            {"GET", "/networks/x", "", "", 404, "Outlet serves plugins and volumes; /networks is not part of it"},
		"swarm":                               {"GET", "/swarm", "", "", 404, "Outlet serves plugins and volumes; /swarm is not part of it"},
		"too old":                             {"GET", "/v1.24/plugins", "", "", 400, "client version 1.24 is too old. Minimum supported API version is 1.25, please upgrade your client to a newer version"},
		"too new":                             {"GET", "/v1.52/plugins", "", "", 400, "client version 1.52 is too new. Maximum supported API version is 1.51"},
		"absurdly new":                        {"GET", "/v99999999999999999999999/plugins", "", "", 400, "client version 99999999999999999999999 is too new. Maximum supported API version is 1.51"},
		"bad encoding of a query":             {"GET", "/plugins?filters=%zz", "", "", 400, `invalid URL escape "%zz"`},
		"filters that are no JSON":            {"GET", "/plugins?filters=x", "", "", 400, "invalid filter"},
		"filters of another shape":            {"GET", "/plugins?filters=" + url.QueryEscape(`{"enabled":"true"}`), "", "", 400, "invalid filter"},
		"unknown filter":                      {"GET", "/plugins?filters=" + url.QueryEscape(`{"x":{"y":true}}`), "", "", 400, "invalid filter 'x'"},
		"enabled neither true nor false":      {"GET", "/plugins?filters=" + url.QueryEscape(`{"enabled":{"maybe":true}}`), "", "", 400, "invalid filter 'enabled=[maybe]'"},
		"enabled both true and false":         {"GET", "/plugins?filters=" + url.QueryEscape(`{"enabled":["true","false"]}`), "", "", 400, "invalid filter 'enabled=[false true]'"},
		"unknown volume filter":               {"GET", "/volumes?filters=" + url.QueryEscape(`{"x":["y"]}`), "", "", 400, "invalid filter 'x'"},
		"unknown plugin, inspect":             {"GET", "/plugins/no/json", "", "", 404, `plugin "no" not found`},
		"unknown plugin with a path, inspect": {"GET", "/plugins/localhost:1/a/json/b/json", "", "", 404, `plugin "localhost:1/a/json/b" not found`},
		"unknown plugin, enable":              {"POST", "/plugins/no/enable?timeout=0", "", "", 404, `plugin "no" not found`},
		"enable twice":                        {"POST", "/plugins/foo/bar/enable", "", "", 409, "plugin already enabled: plugin foo/bar:latest is enabled"},
		"timeout that is no number":           {"POST", "/plugins/foo/bar/enable?timeout=x", "", "", 400, `invalid timeout "x"`},
		"negative timeout":                    {"POST", "/plugins/foo/bar/enable?timeout=-1", "", "", 400, `invalid timeout "-1"`},
		"timeout beyond time":                 {"POST", "/plugins/foo/bar/enable?timeout=9223372036854775807", "", "", 400, `invalid timeout "9223372036854775807"`},
		"disable in use":                      {"POST", "/plugins/used/one/disable", "", "", 409, "plugin used/one:latest is in use"},
		"remove enabled":                      {"DELETE", "/plugins/foo/bar", "", "", 409, "plugin foo/bar:latest is enabled"},
		"remove, force says no":               {"DELETE", "/plugins/foo/bar?force=No", "", "", 409, "plugin foo/bar:latest is enabled"},
		"set: bad JSON before unknown plugin": {"POST", "/plugins/no/set", js, "[", 400, "invalid JSON: unexpected EOF"},
		"set: unknown plugin":                 {"POST", "/plugins/no/set", js, "[]", 404, `plugin "no" not found`},
		"set: wrong type of JSON":             {"POST", "/plugins/foo/bar/set", js, `{"a":1}`, 400, "invalid JSON: json: cannot unmarshal object into Go value of type []string"},
		"set: no content type":                {"POST", "/plugins/foo/bar/set", "", "[]", 400, noMedia},
		"set: other content type":             {"POST", "/plugins/foo/bar/set", "text/plain", "[]", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		"set: other content type, no body":    {"POST", "/plugins/foo/bar/set", "text/plain", "", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		"set: malformed content type":         {"POST", "/plugins/foo/bar/set", "application/json; x", "[]", 400, "malformed Content-Type header (application/json; x): mime: invalid media parameter"},
		"set: two values":                     {"POST", "/plugins/foo/bar/set", js, "[] []", 400, "unexpected content after JSON"},
		"set: a brace after the value":        {"POST", "/plugins/foo/bar/set", js, "[] }", 400, "unexpected content after JSON"},
		"set: too large":                      {"POST", "/plugins/foo/bar/set", js, `["` + strings.Repeat("x", maxJSON) + `"]`, 400, "request body too large"},
		"set: not settable":                   {"POST", "/plugins/foo/bar/set", js, `["<x>=1"]`, 400, `setting "<x>=1" not found in the plugin configuration`},
		"create: not a tar":                   {"POST", "/plugins/create?name=n", "application/x-tar", strings.Repeat("x", 1024), 400, "failed to read from tar: archive/tar: invalid tar header"},
		"create: empty":                       {"POST", "/plugins/create?name=n", "", "", 400, "config not found"},
		"pull: bad JSON before bad reference": {"POST", "/plugins/pull?remote=BAD", js, "{", 400, "invalid JSON: unexpected EOF"},
		"pull: no reference":                  {"POST", "/plugins/pull", js, "[]", 400, "invalid reference format"},
		"pull: upper case":                    {"POST", "/plugins/pull?remote=foo/BAR", js, "[]", 400, "invalid reference format: repository name (foo/BAR) must be lowercase"},
		"pull: 64 hex digits":                 {"POST", "/plugins/pull?remote=" + id(1), js, "[]", 400, "invalid repository name (" + id(1) + "), cannot specify 64-byte hexadecimal strings"},
		"pull: bad local name":                {"POST", pull + "&name=A", js, "[]", 400, `failed to parse "A": invalid reference format: repository name (library/A) must be lowercase`},
		"pull: digest as local name":          {"POST", pull + "&name=a@" + digest, js, "[]", 400, "cannot use digest in plugin tag"},
		"pull":                                {"POST", pull, js, "null", 501, "installing from a registry" + noReg},
		"privileges: no reference":            {"GET", "/plugins/privileges", "", "", 400, "invalid reference format"},
		"privileges":                          {"GET", "/plugins/privileges?remote=foo/bar", "", "", 501, "asking for the privileges of a remote plugin" + noReg},
		"upgrade of an old client":            {"POST", "/v1.25/plugins/a/b/upgrade?remote=x", js, "[]", 400, "POST /plugins/{name:.*}/upgrade requires minimum API version 1.26"},
		"upgrade":                             {"POST", "/v1.26/plugins/a/b/upgrade?remote=x", js, "[]", 501, "upgrading from a registry" + noReg},
		"push":                                {"POST", "/plugins/foo/bar/push", "", "", 501, "pushing to a registry" + noReg},
		"auth":                                {"POST", "/auth", js, "{}", 501, "logging in to a registry" + noReg},
		"events: bad since":                   {"GET", "/events?since=x", "", "", 400, `invalid value for 'since': invalid timestamp "x": invalid seconds "x": invalid syntax`},
		"events: bad until":                   {"GET", "/events?until=1.x", "", "", 400, `invalid value for 'until': invalid timestamp "1.x": invalid nanoseconds "x": invalid syntax`},
		"events: long fraction":               {"GET", "/events?until=1.123456789012345678901", "", "", 400, `invalid value for 'until': invalid timestamp "1.123456789012345678901": invalid nanoseconds "123456789012345678901": invalid syntax`},
		"events: until before since":          {"GET", "/events?since=5&until=4", "", "", 400, "`since` time (5) cannot be after `until` time (4)"},
		"events: bad filters":                 {"GET", "/events?filters=[", "", "", 400, "invalid filter"},
		"volume: unknown":                     {"GET", "/volumes/none", "", "", 404, "get none: no such volume"},
		"volume: remove unknown":              {"DELETE", "/volumes/none", "", "", 404, "get none: no such volume"},
		"volume: no driver":                   {"POST", "/volumes/create", js, `{"Name":"x"}`, 400, "no volume driver is named; there are: sample"},
		"volume: mount unknown":               {"POST", "/outlet/v1/volumes/none/mount", js, `{}`, 404, "get none: no such volume"},
		"volume: unmount unmounted":           {"POST", "/outlet/v1/volumes/vol/unmount", js, `{}`, 404, "vol is not mounted"},
		"ours: no plugin":                     {"GET", "/outlet/v1/plugins/privileges", "", "", 400, `the parameter "plugin" is missing`},
		"ours: unknown plugin":                {"GET", "/outlet/v1/plugins/privileges?plugin=no", "", "", 404, `plugin "no" not found`},
		"ours: bad start timeout":             {"POST", "/outlet/v1/plugins/enable?plugin=foo/bar&start-timeout=5", "", "", 400, `invalid start-timeout "5"`},
		"ours: logs of an unknown plugin":     {"GET", "/outlet/v1/plugins/logs?plugin=no&follow=1", "", "", 404, `plugin "no" not found`},
		"ours: bad tail":                      {"GET", "/outlet/v1/plugins/logs?plugin=foo/bar&tail=-1", "", "", 400, `invalid tail "-1"`},
		"ours: bad time of logs":              {"GET", "/outlet/v1/plugins/logs?plugin=foo/bar&since=yesterday", "", "", 400, `invalid value for 'since': invalid timestamp "yesterday": invalid seconds "yesterday": invalid syntax`},
		"ours: call without a method":         {"POST", "/outlet/v1/plugins/call?plugin=foo/bar", "", "", 400, `the parameter "method" is missing`},
		"ours: call of a path":                {"POST", "/outlet/v1/plugins/call?plugin=foo/bar&method=../x", "", "", 400, `"../x" is not the name of a method such as VolumeDriver.List`},
		"ours: call with bad JSON":            {"POST", "/outlet/v1/plugins/call?plugin=foo/bar&method=A.B", js, "{", 400, "invalid JSON: the body of a call must be one JSON value"},
		"ours: exec without upgrade":          {"POST", "/outlet/v1/plugins/exec?plugin=foo/bar", "", "", 400, "exec needs the headers Connection: Upgrade and Upgrade: outlet-exec"},
	} {
		t.Run(name, func(t *testing.T) {
			a := g.do(c.method, c.target, c.contentType, c.body)
			a.checkError(t, c.status, c.message)
			a.checkVersionHeaders(t)
		})
	}
}

func TestErrorsOfOldClientsArePlainText(t *testing.T) {
	g := newRig(t)
	for _, target := range []string{"/v1.23/plugins", "/v1/plugins"} {
		v, _ := splitVersion(target)
		g.do("GET", target, "", "").check(t, 400, "text/plain; charset=utf-8",
			"client version "+v+" is too old. Minimum supported API version is 1.25, please upgrade your client to a newer version\n")
	}
	g.do("GET", "/v1.23/x", "", "").check(t, 404, "text/plain; charset=utf-8", "page not found\n")
}

func TestAnswersWithoutBody(t *testing.T) {
	for name, c := range map[string]struct {
		method, target, contentType, body string
		status                            int
	}{
		"options of anything":         {"OPTIONS", "/any/thing", "", "", 200},
		"enable":                      {"POST", "/plugins/off/enable", "", "", 200},
		"disable":                     {"POST", "/plugins/foo/bar/disable", "", "", 200},
		"disable by force":            {"POST", "/plugins/used/one/disable?force=1", "", "", 200},
		"remove by force":             {"DELETE", "/plugins/foo/bar?force=yes", "", "", 200},
		"remove, percent-encoded":     {"DELETE", "/plugins/localhost%3A5000%2Fa%2Fb%2Fc%3A1?force=1", "", "", 200},
		"set":                         {"POST", "/plugins/foo/bar/set", "application/json; charset=utf-8", `["DEBUG=1"]`, 204},
		"set with JSON null":          {"POST", "/plugins/foo/bar/set", "application/json", "null", 204},
		"set without a body":          {"POST", "/plugins/foo/bar/set", "", "", 204},
		"set with a type but no body": {"POST", "/plugins/foo/bar/set", "application/json", "", 204},
		"our set":                     {"POST", "/outlet/v1/plugins/set?plugin=foo/bar", "application/json", `{"Set":["DEBUG=1"],"Args":[],"Unset":["X"]}`, 204},
		"remove a volume":             {"DELETE", "/v1.40/volumes/vol?force=1", "", "", 204},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			p := samplePlugin("off:latest", 9)
			p.Enabled = false
			g.plugins.plugins[p.Name] = &p
			a := g.do(c.method, c.target, c.contentType, c.body)
			a.check(t, c.status, "", "")
			a.checkVersionHeaders(t)
		})
	}
}

func TestOurSetTellsAbsentArgsFromNone(t *testing.T) {
	g := newRig(t)
	for body, want := range map[string]outlet.SetOptions{
		`{"Set":["DEBUG=2"]}`:        {Set: []string{"DEBUG=2"}},
		`{"Args":[]}`:                {Args: []string{}},
		`{"Args":["a b"]}`:           {Args: []string{"a b"}},
		`{"Unset":["DEBUG","args"]}`: {Unset: []string{"DEBUG", "args"}},
	} {
		if a := g.do("POST", "/outlet/v1/plugins/set?plugin=foo/bar", "application/json", body); a.status != 204 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
		g.plugins.mu.Lock()
		got := g.plugins.set
		g.plugins.mu.Unlock()
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", body, diff)
		}
	}
}

var volatile = regexp.MustCompile(`"(SystemTime|GoVersion|Arch|time|timeNano)":("[^"]*"|\d+)`)

func TestGoldenAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		method, target, body string
		status               int
	}{
		"version":           {"GET", "/version", "", 200},
		"info":              {"GET", "/info", "", 200},
		"info-1.48":         {"GET", "/v1.48/info", "", 200},
		"system-df":         {"GET", "/v1.51/system/df", "", 200},
		"plugins":           {"GET", "/v1.25/plugins", "", 200},
		"plugins-none":      {"GET", "/plugins?filters=" + url.QueryEscape(`{"enabled":{"false":true}}`), "", 200},
		"plugin":            {"GET", "/plugins/foo%2Fbar/json", "", 200},
		"plugin-nested":     {"GET", "/v1.44/plugins/localhost:5000/a/b/c:1/json", "", 200},
		"volumes":           {"GET", "/volumes", "", 200},
		"volume":            {"GET", "/volumes/vol", "", 200},
		"volume-create":     {"POST", "/volumes/create", `{"Name":"n","Driver":"sample","DriverOpts":{"size":"1"},"Labels":{"a":"b"}}`, 201},
		"volume-prune":      {"POST", "/volumes/prune", "", 200},
		"events":            {"GET", "/events?since=1&until=9000000000&filters=" + url.QueryEscape(`{"type":["plugin"]}`), "", 200},
		"outlet-discover":   {"GET", "/outlet/v1/discover", "", 200},
		"outlet-info":       {"GET", "/outlet/v1/info", "", 200},
		"outlet-check":      {"GET", "/outlet/v1/system/check", "", 200},
		"outlet-repair":     {"POST", "/outlet/v1/system/check", "", 200},
		"outlet-privileges": {"GET", "/outlet/v1/plugins/privileges?plugin=foo/bar", "", 200},
		"outlet-enable":     {"POST", "/outlet/v1/plugins/enable?plugin=off&timeout=30s&start-timeout=15s", "", 200},
		"outlet-mount":      {"POST", "/outlet/v1/volumes/vol/mount", `{"ID":"a"}`, 200},
		"outlet-mount-made": {"POST", "/outlet/v1/volumes/vol/mount", "", 200},
		"outlet-call":       {"POST", "/outlet/v1/plugins/call?plugin=foo/bar&method=VolumeDriver.List", `{}`, 200},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			p := samplePlugin("off:latest", 9)
			p.Enabled = false
			g.plugins.plugins[p.Name] = &p
			if name == "plugins-none" {
				delete(g.plugins.plugins, p.Name)
			}
			g.plugins.changed("enable", p)
			contentType := ""
			if c.body != "" {
				contentType = "application/json"
			}
			if name == "events" {
				g.events.Close() // so that the stream ends after what is kept
			}
			a := g.do(c.method, c.target, contentType, c.body)
			if a.status != c.status || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%d %s", a.status, a.header.Get("Content-Type"))
			}
			a.checkVersionHeaders(t)
			if !strings.HasSuffix(a.body, "\n") && name != "outlet-call" {
				t.Errorf("no line end: %q", a.body)
			}
			var pretty bytes.Buffer
			if err := json.Indent(&pretty, []byte(volatile.ReplaceAllString(a.body, `"$1":"…"`)), "", "\t"); err != nil {
				t.Fatalf("%v: %s", err, a.body)
			}
			file := filepath.Join("testdata", name+".golden.json")
			if *update {
				if err := os.WriteFile(file, pretty.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), pretty.String()); diff != "" {
				t.Errorf("-%s +got: %s", file, diff)
			}
		})
	}
}

func TestPing(t *testing.T) {
	g := newRig(t)
	for method, body := range map[string]string{"GET": "OK", "HEAD": ""} {
		for _, target := range []string{"/_ping", "/v1.51/_ping"} {
			a := g.do(method, target, "", "")
			a.check(t, 200, "text/plain; charset=utf-8", body)
			a.checkVersionHeaders(t)
			for key, want := range map[string]string{
				"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Swarm": "inactive",
				"Content-Length": fmt.Sprint(len(body)),
			} {
				if got := a.header.Get(key); got != want {
					t.Errorf("%s %s: %s is %q", method, target, key, got)
				}
			}
		}
	}
}

func TestUncleanPathsAreRedirected(t *testing.T) {
	g := newRig(t)
	for target, want := range map[string]string{
		"//plugins":                      "/plugins",
		"/v1.51//plugins?filters=%7B%7D": "/v1.51/plugins?filters=%7B%7D",
		"/plugins/./foo/json":            "/plugins/foo/json",
		"/plugins/../version":            "/version",
		"//example.com/../../plugins":    "/plugins",
		"/plugins//foo%2Fbar/json":       "/plugins/foo%2Fbar/json",
		"/plugins//":                     "/plugins/",
	} {
		res := g.raw("GET " + target + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if !strings.HasPrefix(res, "HTTP/1.1 301 ") || !strings.Contains(res, "\r\nLocation: "+want+"\r\n") {
			t.Errorf("%s: %s", target, res)
		}
	}
	// Encoded slashes are part of a name.
	g.do("GET", "/volumes/s3:%2F%2Fb", "", "").checkError(t, 404, "get s3://b: no such volume")
}

func TestStatusIsThatOfTheOutermostClass(t *testing.T) {
	inner := outlet.Errorf(errdefs.ErrNotFound, "inner")
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"unclassified":                {errors.New("x"), 500},
		"sentinel":                    {errdefs.ErrNotFound, 404},
		"sentinel with a message":     {errdefs.ErrConflict.WithMessage("x"), 409},
		"wrapped":                     {fmt.Errorf("a: %w", fmt.Errorf("b: %w", inner)), 404},
		"outer class wins":            {outlet.Errorf(errdefs.ErrInvalidArgument, "outer: %w", inner), 400},
		"outer class wins, deeper":    {outlet.Errorf(errdefs.ErrInternal, "outer: %w", fmt.Errorf("x: %w", inner)), 500},
		"joined":                      {errors.Join(errors.New("a"), inner), 404},
		"already exists":              {outlet.Errorf(errdefs.ErrAlreadyExists, "x"), 409},
		"failed precondition":         {outlet.Errorf(errdefs.ErrFailedPrecondition, "x"), 400},
		"out of range":                {outlet.Errorf(errdefs.ErrOutOfRange, "x"), 400},
		"too large":                   {outlet.Errorf(errdefs.ErrResourceExhausted, "x"), 413},
		"unauthenticated":             {outlet.Errorf(errdefs.ErrUnauthenticated, "x"), 401},
		"permission denied":           {outlet.Errorf(errdefs.ErrPermissionDenied, "x"), 403},
		"unavailable":                 {outlet.Errorf(errdefs.ErrUnavailable, "x"), 503},
		"not implemented":             {outlet.Errorf(errdefs.ErrNotImplemented, "x"), 501},
		"not modified":                {outlet.Errorf(errdefs.ErrNotModified, "x"), 304},
		"data loss":                   {outlet.Errorf(errdefs.ErrDataLoss, "x"), 500},
		"deadline around a not found": {fmt.Errorf("%w", errors.Join(fmt.Errorf("x: %w", inner))), 404},
	} {
		t.Run(name, func(t *testing.T) {
			if got := status(c.err); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestCompareVersions(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"1.25", "1.25", 0},
		{"1.9", "1.25", -1},
		{"1.100", "1.51", 1},
		{"1", "1.0", 0},
		{"1.25.0", "1.25", 0},
		{"2", "1.51", 1},
		{"01.025", "1.25", 0},
		{"", "1", -1},
		{"1..2", "1.0.2", 0},
	} {
		if got := compareVersions(c.a, c.b); got != c.want {
			t.Errorf("%q, %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if got := compareVersions(c.b, c.a); got != -c.want {
			t.Errorf("%q, %q: %d, want %d", c.b, c.a, got, -c.want)
		}
	}
}

func TestFiltersReachTheBackend(t *testing.T) {
	g := newRig(t)
	q := url.QueryEscape(`{"dangling":{"1":true},"driver":{"d":true},"label":["a=b"],"name":{}}`)
	g.do("GET", "/volumes?filters="+q, "", "").checkError(t, 400, "invalid filter") // no mixture of forms
	q = url.QueryEscape(`{"dangling":["1"],"driver":["d","d"],"label":["b","a=b"]}`)
	if a := g.do("GET", "/volumes?filters="+q, "", ""); a.status != 200 {
		t.Fatal(a)
	}
	yes := true
	want := outlet.VolumeFilter{Drivers: []string{"d"}, Labels: []string{"a=b", "b"}, Dangling: &yes}
	g.volumes.mu.Lock()
	got := g.volumes.filter
	g.volumes.mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestServerErrorsHideStatePathsFromStrangers(t *testing.T) {
	s := &Server{cfg: Config{StatePaths: []string{"/var/lib/outlet/", ""}}}
	r, err := http.NewRequestWithContext(t.Context(), "GET", "/", nil)
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("open /var/lib/outlet/blobs/x: no space left")
	if got := s.publicText(r, 500, failure); got != "open .../blobs/x: no space left" {
		t.Errorf("a stranger reads %q", got)
	}
	if got := s.publicText(r.WithContext(contextWithPeer(r, 0)), 500, failure); got != failure.Error() {
		t.Errorf("root reads %q", got)
	}
	if got := s.publicText(r, 404, errors.New("")); got != "Not Found" {
		t.Errorf("no text reads %q", got)
	}
	if got := s.publicText(r, 404, failure); got != failure.Error() {
		t.Errorf("an error of the client reads %q", got)
	}
}

func contextWithPeer(r *http.Request, uid int) context.Context {
	return context.WithValue(r.Context(), peerKey{}, uid)
}
