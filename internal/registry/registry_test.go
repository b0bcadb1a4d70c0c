package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

func client(t *testing.T, change ...func(*Config)) *Client {
	t.Helper()
	cfg := Config{Backoff: time.Millisecond, MaxWait: time.Second, AnswerTimeout: 30 * time.Second}
	for _, f := range change {
		f(&cfg)
	}
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func open(t *testing.T, c *Client, ref string, auth outlet.RegistryAuth) *Repository {
	t.Helper()
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), reference.TagNameOnly(named), Options{Auth: auth})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r
}

// roundTrip pushes a plugin and reads it again.
func roundTrip(t *testing.T, c *Client, ref string, auth outlet.RegistryAuth) error {
	t.Helper()
	r := open(t, c, ref, auth)
	blob := func(mediaType, s string) (ocispec.Descriptor, error) {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromString(s), Size: int64(len(s))}
		_, err := r.PushBlob(t.Context(), d, func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil })
		return d, err
	}
	config, err := blob(rt.TypeConfig, `{"description":"x"}`)
	if err != nil {
		return err
	}
	layer, err := blob(rt.TypeGzip, "not really")
	if err != nil {
		return err
	}
	raw := rt.JSON(t, map[string]any{"schemaVersion": 2, "mediaType": rt.TypeManifest, "config": config, "layers": []any{layer}})
	desc := ocispec.Descriptor{MediaType: rt.TypeManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	if err := r.PushManifest(t.Context(), desc, raw); err != nil {
		return err
	}
	again := open(t, c, ref, auth)
	m, err := again.Resolve(t.Context())
	if err != nil {
		return err
	}
	if !bytes.Equal(m.Raw, raw) || m.Descriptor.Digest != desc.Digest {
		t.Errorf("the manifest is %s", m.Raw)
	}
	b := again.Blob(t.Context(), layer, 4)
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || string(got) != "really" {
		t.Errorf("the blob from byte 4 is %q, %v", got, err)
	}
	return nil
}

// outside is an address of this machine that is not loopback.
func outside(t *testing.T) string {
	t.Helper()
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil && !n.IP.IsLoopback() {
			return n.IP.String()
		}
	}
	t.Skip("needs an address that is not loopback")
	return ""
}

func TestTransportSecurity(t *testing.T) {
	ip := outside(t)
	loopback, plain, secure := rt.Start(t, rt.Options{}), rt.Start(t, rt.Options{Listen: ip}), rt.Start(t, rt.Options{Listen: ip, TLS: true})
	loopbackTLS := rt.Start(t, rt.Options{TLS: true})
	certs := func(t *testing.T, host string, pem []byte) func(*Config) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, host, "ca.crt"), pem, 0o600); err != nil {
			t.Fatal(err)
		}
		return func(c *Config) { c.CertsDirs = []string{filepath.Join(dir, "none"), dir} }
	}
	insecure := func(l ...string) func(*Config) { return func(c *Config) { c.Insecure = l } }
	other, _ := rt.Certificate(t, ip)
	for name, tt := range map[string]struct {
		host   string
		change func(*Config)
		fails  string
	}{
		"loopback speaks plain HTTP":                 {loopback.Host, insecure(), ""},
		"loopback with a certificate nobody knows":   {loopbackTLS.Host, insecure(), ""},
		"another host must not speak plain HTTP":     {plain.Host, insecure(), "server gave HTTP response to HTTPS client"},
		"unless it is listed":                        {plain.Host, insecure(plain.Host), ""},
		"or its network":                             {plain.Host, insecure(ip + "/32"), ""},
		"a certificate nobody knows is refused":      {secure.Host, insecure(), "certificate"},
		"unless the registry is listed":              {secure.Host, insecure(ip), ""},
		"a certificate of its directory is accepted": {secure.Host, certs(t, secure.Host, secure.CA), ""},
		"that of somebody else is not":               {secure.Host, certs(t, secure.Host, other), "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			err := roundTrip(t, client(t, tt.change), tt.host+"/foo/bar:1", outlet.RegistryAuth{})
			if tt.fails == "" && err != nil {
				t.Error(err)
			}
			if tt.fails != "" && (err == nil || !strings.Contains(err.Error(), tt.fails) || !strings.Contains(err.Error(), tt.host)) {
				t.Errorf("got %v", err)
			}
			if time.Since(began) > 20*time.Second {
				t.Errorf("it took %s", time.Since(began))
			}
		})
	}
}

func TestPasswords(t *testing.T) {
	reg := rt.Start(t, rt.Options{Password: true})
	c := client(t)
	ref := reg.Host + "/foo/bar:1"
	if err := roundTrip(t, c, ref, outlet.RegistryAuth{Username: "me", Password: "secret"}); err != nil {
		t.Error(err)
	}
	if err := roundTrip(t, c, ref, outlet.RegistryAuth{Auth: "bWU6c2VjcmV0"}); err != nil {
		t.Errorf("in base64: %v", err)
	}
	for name, a := range map[string]outlet.RegistryAuth{"none": {}, "wrong": {Username: "me", Password: "no"}} {
		if err := roundTrip(t, c, ref, a); !errdefs.IsUnauthorized(err) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTokens(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*rt.TokenServer)
		auth   outlet.RegistryAuth
		fails  error
	}{
		"anonymous":              {func(*rt.TokenServer) {}, outlet.RegistryAuth{}, nil},
		"a password":             {func(s *rt.TokenServer) { s.User, s.Password = "me", "x" }, outlet.RegistryAuth{Username: "me", Password: "x"}, nil},
		"an identity token":      {func(s *rt.TokenServer) { s.User, s.Refresh = "me", "rrr" }, outlet.RegistryAuth{IdentityToken: "rrr"}, nil},
		"classes are refused":    {func(s *rt.TokenServer) { s.RefuseClass = true }, outlet.RegistryAuth{}, nil},
		"a wrong password":       {func(s *rt.TokenServer) { s.User, s.Password = "me", "x" }, outlet.RegistryAuth{Username: "me", Password: "y"}, errdefs.ErrUnauthenticated},
		"nobody":                 {func(s *rt.TokenServer) { s.User, s.Password = "me", "x" }, outlet.RegistryAuth{}, errdefs.ErrUnauthenticated},
		"a wrong identity token": {func(s *rt.TokenServer) { s.User, s.Refresh = "me", "rrr" }, outlet.RegistryAuth{IdentityToken: "qqq"}, errdefs.ErrUnauthenticated},
	} {
		t.Run(name, func(t *testing.T) {
			tokens := rt.StartTokens(t)
			tt.change(tokens)
			reg := rt.Start(t, rt.Options{Tokens: tokens})
			err := roundTrip(t, client(t), reg.Host+"/foo/bar:1", tt.auth)
			if !errors.Is(err, tt.fails) {
				t.Errorf("got %v", err)
			}
			if tt.fails == nil && !strings.Contains(fmt.Sprint(tokens.Scopes()), "repository(plugin):foo/bar:pull,push") {
				t.Errorf("scopes asked for: %q", tokens.Scopes())
			}
		})
	}
}

func TestLogin(t *testing.T) {
	passwords := rt.Start(t, rt.Options{Password: true})
	nobody := rt.Start(t, rt.Options{})
	tokens := rt.StartTokens(t)
	tokens.User, tokens.Password, tokens.Refresh = "me", "x", "rrr"
	reg := rt.Start(t, rt.Options{Tokens: tokens})
	// Names that nobody has may take long to be known as such.
	c := client(t, func(cfg *Config) { cfg.AnswerTimeout = 5 * time.Second })
	for name, tt := range map[string]struct {
		auth  outlet.RegistryAuth
		token string
		class error
		text  string
	}{
		"a password":                {outlet.RegistryAuth{Username: rt.User, Password: rt.Password, ServerAddress: passwords.Host}, "", nil, ""},
		"an address with a scheme":  {outlet.RegistryAuth{Username: rt.User, Password: rt.Password, ServerAddress: "http://" + passwords.Host + "/v2/"}, "", nil, ""},
		"a wrong password":          {outlet.RegistryAuth{Username: "me", Password: "y", ServerAddress: passwords.Host}, "", errdefs.ErrUnauthenticated, `/v2/": unauthorized`},
		"a registry without":        {outlet.RegistryAuth{ServerAddress: nobody.Host}, "", nil, ""},
		"a token server":            {outlet.RegistryAuth{Username: "me", Password: "x", ServerAddress: reg.Host}, "rrr", nil, ""},
		"its identity token":        {outlet.RegistryAuth{IdentityToken: "rrr", ServerAddress: reg.Host}, "rrr", nil, ""},
		"a token server says no":    {outlet.RegistryAuth{Username: "me", Password: "y", ServerAddress: reg.Host}, "", errdefs.ErrUnauthenticated, "unauthorized: incorrect username or password"},
		"not an address":            {outlet.RegistryAuth{ServerAddress: "http://%zz"}, "", errdefs.ErrInvalidArgument, "unable to parse server address"},
		"nobody answers there":      {outlet.RegistryAuth{ServerAddress: "127.0.0.1:1"}, "", errdefs.ErrInternal, "registry 127.0.0.1:1"},
		"a token server of nowhere": {outlet.RegistryAuth{ServerAddress: "registry.invalid"}, "", errdefs.ErrInternal, "registry registry.invalid"},
	} {
		t.Run(name, func(t *testing.T) {
			token, err := c.Login(t.Context(), tt.auth)
			if !errors.Is(err, tt.class) || token != tt.token || err != nil && !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %q, %v", token, err)
			}
		})
	}
}

// mirrored is a client for which Docker Hub is a registry of this test. A mirror
// has a third of answer to answer.
func mirrored(t *testing.T, hub *rt.Proxy, answer time.Duration, mirrors ...string) *Client {
	c := client(t, func(cfg *Config) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "docker.io"), 0o755); err != nil {
			t.Fatal(err)
		}
		// What looks like the registry itself to the code: the last endpoint.
		if err := os.WriteFile(filepath.Join(dir, "docker.io", "hosts.toml"), []byte("server = \"http://"+hub.Host+"\"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.CertsDirs = []string{dir}
		cfg.Mirrors = mirrors
		cfg.AnswerTimeout = answer
	})
	return c
}

func TestMirrors(t *testing.T) {
	origin, copyOf := rt.Start(t, rt.Options{}), rt.Start(t, rt.Options{})
	p := rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{rt.GzipLayer(t, rt.File{Name: "f", Content: "x"})}}
	layer := ocispec.Descriptor{MediaType: rt.TypeGzip, Digest: digest.FromBytes(p.Layers[0].Blob), Size: int64(len(p.Layers[0].Blob))}
	origin.Put(t, "foo/bar", "latest", p)
	copyOf.Put(t, "foo/bar", "latest", p)
	for name, tt := range map[string]struct {
		fault  rt.Fault
		on     string
		asked  bool // the registry itself
		second bool // the mirror, the next time
	}{
		"a mirror that works":         {nil, "", false, true},
		"a mirror that has it not":    {rt.Status(404), "GET", true, true},
		"a mirror that fails":         {rt.Status(500), "GET", true, false},
		"a mirror that hangs":         {rt.Stall(0), "GET", true, false},
		"a mirror with other content": {rt.Flip(3), "GET /v2/foo/bar/manifests", true, false},
		"a mirror with wrong blobs":   {rt.Flip(3), "GET /v2/foo/bar/blobs", true, true},
	} {
		t.Run(name, func(t *testing.T) {
			hub, mirror := rt.Before(t, origin), rt.Before(t, copyOf)
			if tt.fault != nil {
				mirror.On(tt.on, tt.fault)
			}
			answer := time.Minute
			if name == "a mirror that hangs" {
				answer = 2 * time.Second
			}
			c := mirrored(t, hub, answer, "http://"+mirror.Host)
			read := func() {
				r := open(t, c, "foo/bar", outlet.RegistryAuth{Username: "me", Password: "secret"})
				if _, err := r.Resolve(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := r.Config(t.Context(), layer); err != nil {
					t.Fatal(err)
				}
			}
			read()
			if asked := hub.Served("/v2/foo/bar") > 0; asked != tt.asked {
				t.Errorf("the registry was asked: %v", asked)
			}
			n := mirror.Served("")
			read()
			if again := mirror.Served("") > n; again != tt.second {
				t.Errorf("the mirror was asked again: %v", again)
			}
			for _, a := range mirror.Authorizations() {
				if a != "" {
					t.Errorf("the mirror was given %q", a)
				}
			}
		})
	}
}

func TestCredentialsGoToNobodyElse(t *testing.T) {
	reg := rt.Start(t, rt.Options{Password: true})
	public := rt.Start(t, rt.Options{})
	p := rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{rt.GzipLayer(t, rt.File{Name: "f", Content: "x"})}}
	public.Put(t, "foo/bar", "1", p)
	front, elsewhere := rt.Before(t, reg), rt.Before(t, public)
	auth := outlet.RegistryAuth{Username: "me", Password: "secret"}
	front.On("GET /v2/foo/bar/manifests/1", func(w http.ResponseWriter, r *http.Request, n int, next http.Handler) {
		if r.Header.Get("Authorization") == "" {
			next.ServeHTTP(w, r) // which asks for it
			return
		}
		rt.Redirect(elsewhere.Host)(w, r, n, next)
	})
	r := open(t, client(t), front.Host+"/foo/bar:1", auth)
	if _, err := r.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, a := range elsewhere.Authorizations() {
		if a != "" {
			t.Errorf("another port of the host was given %q", a)
		}
	}
	// Nor does it get them by asking.
	asks := rt.Before(t, public)
	asks.On("GET", rt.Status(401, "WWW-Authenticate", `Basic realm="x"`))
	front2 := rt.Before(t, reg)
	front2.On("GET", rt.Redirect(asks.Host))
	_, err := open(t, client(t), front2.Host+"/foo/bar:1", auth).Resolve(t.Context())
	if !errdefs.IsUnauthorized(err) {
		t.Errorf("got %v", err)
	}
	for _, a := range asks.Authorizations() {
		if a != "" {
			t.Errorf("who asked after a redirect was given %q", a)
		}
	}
}

func TestHeadersOfUsersStayWithTheRegistry(t *testing.T) {
	request := func(method, to string) *http.Request {
		r, err := http.NewRequestWithContext(t.Context(), method, to, nil)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := request(http.MethodGet, "https://registry.example/v2/")
	for to, kept := range map[string]bool{
		"https://registry.example/elsewhere":  true,
		"https://registry.example:5000/v2/":   false,
		"http://registry.example/v2/":         false,
		"https://sub.registry.example/v2/":    false,
		"https://registry.example.other/blob": false,
	} {
		next := request(http.MethodGet, to)
		for _, h := range []string{"Authorization", "X-Meta-Secret", "X-Configured", "Range"} {
			next.Header.Set(h, "x")
		}
		if err := checkRedirect(next, []*http.Request{first}, true); err != nil {
			t.Fatal(err)
		}
		for _, h := range []string{"Authorization", "X-Meta-Secret", "X-Configured"} {
			if got := next.Header.Get(h) != ""; got != kept {
				t.Errorf("%s to %s: %v", h, to, got)
			}
		}
		if next.Header.Get("Range") == "" {
			t.Errorf("no Range to %s", to)
		}
	}
}

func TestHeadersOfUsersAreNotForMirrors(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	reg.Put(t, "foo/bar", "1", rt.Plugin{Config: rt.Config(nil), Layers: []rt.Layer{rt.GzipLayer(t, rt.File{Name: "f", Content: "x"})}})
	own, mirror := rt.Before(t, reg), rt.Before(t, reg)
	var atOwn, atMirror atomic.Value
	own.On("GET", func(w http.ResponseWriter, r *http.Request, _ int, next http.Handler) {
		atOwn.Store(r.Header.Get("X-Meta-Secret"))
		next.ServeHTTP(w, r)
	})
	mirror.On("", func(w http.ResponseWriter, r *http.Request, _ int, _ http.Handler) {
		atMirror.Store(r.Header.Get("X-Meta-Secret"))
		w.WriteHeader(http.StatusNotFound)
	})
	c := client(t, func(cfg *Config) {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, own.Host), 0o755); err != nil {
			t.Fatal(err)
		}
		hosts := fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", own.Host, mirror.Host)
		if err := os.WriteFile(filepath.Join(dir, own.Host, "hosts.toml"), []byte(hosts), 0o600); err != nil {
			t.Fatal(err)
		}
		cfg.CertsDirs = []string{dir}
	})
	named, err := reference.ParseNormalizedNamed(own.Host + "/foo/bar:1")
	if err != nil {
		t.Fatal(err)
	}
	r, err := c.Open(t.Context(), named, Options{Header: http.Header{"X-Meta-Secret": {"x"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := r.Resolve(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := atOwn.Load(); got != "x" {
		t.Errorf("the registry was sent %v", got)
	}
	if got := atMirror.Load(); got != "" {
		t.Errorf("the mirror was sent %v", got)
	}
}

func TestUploadsOfASecureRegistryAreNotSentInPlain(t *testing.T) {
	for location, want := range map[string]string{
		"/v2/foo/blobs/uploads/1?a=b":                    "https://registry.example/v2/foo/blobs/uploads/1?a=b&digest=sha256%3Ax",
		"http://registry.example/v2/foo/blobs/uploads/1": "https://registry.example/v2/foo/blobs/uploads/1?digest=sha256%3Ax",
		"https://other.example/1":                        "https://other.example/1?digest=sha256%3Ax",
		"http://other.example/1":                         "",
		"ftp://registry.example/1":                       "",
		"":                                               "",
	} {
		asked, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://registry.example/v2/foo/blobs/uploads/", nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := uploadURL(&http.Response{Request: asked, Header: http.Header{"Location": {location}}}, "sha256:x")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", location, got, err)
		}
	}
}

func TestNothingOfASecureRegistryGoesOverPlainHTTP(t *testing.T) {
	ip := outside(t)
	secure, plain := rt.Start(t, rt.Options{Listen: ip, TLS: true}), rt.Start(t, rt.Options{})
	_ = plain
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, secure.Host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, secure.Host, "ca.crt"), secure.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	c := client(t, func(cfg *Config) { cfg.CertsDirs = []string{dir} })
	r := open(t, c, secure.Host+"/foo/bar:1", outlet.RegistryAuth{})
	e := r.endpoints[len(r.endpoints)-1]
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+plain.Host+"/token", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.auth.client.Do(req); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("a token server over plain HTTP: %v", err)
	}
	if err := e.client.CheckRedirect(req, []*http.Request{req}); err == nil || !strings.Contains(err.Error(), "plain HTTP") {
		t.Errorf("a redirect to plain HTTP: %v", err)
	}
}

func TestARequestEndsWithItsContext(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	p := rt.Before(t, reg)
	p.On("GET", rt.Status(429, "Retry-After", "60"))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	c := client(t, func(cfg *Config) { cfg.MaxWait = time.Hour })
	began := time.Now()
	if _, err := open(t, c, p.Host+"/foo/bar:1", outlet.RegistryAuth{}).Resolve(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}
