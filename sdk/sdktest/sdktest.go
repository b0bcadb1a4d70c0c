package sdktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Options says what is tested and what the plugin wants to hear.
type Options struct {
	// Addr is where the plugin is served: unix:///path or tcp://host:port.
	Addr string
	// Implements is what its manifest has to be, in any order. Capabilities of
	// these names are tested.
	Implements []string
	// VolumeOpts are options with which a volume can be created.
	VolumeOpts map[string]string
	// Pool is a CIDR for network and IPAM plugins. Empty means 198.51.100.0/28.
	Pool string
	// NetworkOpts are what a user gives a network.
	NetworkOpts map[string]any
	// Join has network tests make endpoints ready, which needs what the plugin
	// needs for that.
	Join bool
	// AuthZAllowed and AuthZDenied are requests that the plugin allows and
	// refuses, in the fields of the wire (RequestMethod, RequestUri, …).
	AuthZAllowed, AuthZDenied map[string]any
	// LogOpts are the log options of a container.
	LogOpts map[string]string
	// Secrets are names of secrets and what they hold.
	Secrets map[string]string
}

// Headers that hosts send. Docker sends no content type.
var (
	dockerHeader = http.Header{"Accept": {"application/vnd.docker.plugins.v1.2+json"}}
	podmanHeader = http.Header{
		"Accept":       {"application/vnd.docker.plugins.v1.1+json"},
		"Content-Type": {"application/vnd.docker.plugins.v1.1+json"},
	}
)

// suite is one run of the tests.
type suite struct {
	Options
	client *http.Client
}

// Run tests a plugin. Everything that it creates it removes.
func Run(t *testing.T, o Options) {
	t.Helper()
	if o.Pool == "" {
		o.Pool = "198.51.100.0/28"
	}
	u, err := url.Parse(o.Addr)
	if err != nil {
		t.Fatal(err)
	}
	network, address := "tcp", u.Host
	if u.Scheme == "unix" {
		network, address = "unix", u.Path
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	s := &suite{Options: o, client: &http.Client{Transport: transport}}
	t.Run("protocol", s.protocol)
	for _, c := range []struct {
		name string
		test func(*testing.T)
	}{
		{"VolumeDriver", s.volume},
		{"NetworkDriver", s.network},
		{"IpamDriver", s.ipam},
		{"authz", s.authz},
		{"LogDriver", s.logs},
		{"MetricsCollector", s.metrics},
		{"secretprovider", s.secrets},
	} {
		if slices.Contains(o.Implements, c.name) {
			t.Run(c.name, c.test)
		}
	}
}

// answer is what a plugin answered.
type answer struct {
	method string
	status int
	header http.Header
	body   []byte
}

// call sends a call. body nil is no body at all.
func (s *suite) call(t *testing.T, h http.Header, method string, body any) answer {
	t.Helper()
	a, err := s.try(t.Context(), h, http.MethodPost, method, body)
	if err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	return a
}

func (s *suite) try(ctx context.Context, h http.Header, verb, method string, body any) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	var content io.Reader = http.NoBody
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		text, err := json.Marshal(b)
		if err != nil {
			return answer{}, err
		}
		content = bytes.NewReader(append(text, '\n'))
	}
	req, err := http.NewRequestWithContext(ctx, verb, "http://plugin.moby.localhost/"+method, content)
	if err != nil {
		return answer{}, err
	}
	req.Header = h.Clone()
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	return answer{method, resp.StatusCode, resp.Header, text}, err
}

// into fails the test unless the call succeeded as Docker and Podman see it, and
// decodes the answer.
func (a answer) into(t *testing.T, v any) {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("%s: status %d: %s", a.method, a.status, a.body)
	}
	var failure struct{ Err, Error string }
	if err := json.Unmarshal(a.body, &failure); err != nil {
		t.Fatalf("%s: the answer is no JSON object: %v: %s", a.method, err, a.body)
	}
	if failure.Err != "" || failure.Error != "" {
		t.Fatalf("%s: fails with status 200, which Podman takes for success: %s", a.method, a.body)
	}
	if v != nil {
		if err := json.Unmarshal(a.body, v); err != nil {
			t.Fatalf("%s: %v: %s", a.method, err, a.body)
		}
	}
}

// ok fails the test unless the call succeeded.
func (a answer) ok(t *testing.T) { t.Helper(); a.into(t, nil) }

// refused fails the test unless the call failed in a way that every host
// understands.
func (a answer) refused(t *testing.T) {
	t.Helper()
	if a.status < 400 {
		t.Errorf("%s: status %d, but it should fail: %s", a.method, a.status, a.body)
		return
	}
	var failure struct{ Err string }
	if err := json.Unmarshal(a.body, &failure); err != nil || failure.Err == "" {
		t.Errorf(`%s: status %d without {"Err": "…"}: %s`, a.method, a.status, a.body)
	}
}

// Methods that need arguments, those that a plugin may leave out apart.
var needArguments = map[string][]string{
	"VolumeDriver": {"VolumeDriver.Create", "VolumeDriver.Get", "VolumeDriver.Remove", "VolumeDriver.Path", "VolumeDriver.Mount", "VolumeDriver.Unmount"},
	"NetworkDriver": {
		"NetworkDriver.CreateNetwork", "NetworkDriver.DeleteNetwork", "NetworkDriver.CreateEndpoint", "NetworkDriver.DeleteEndpoint",
		"NetworkDriver.EndpointOperInfo", "NetworkDriver.Join", "NetworkDriver.Leave",
	},
	"IpamDriver":     {"IpamDriver.RequestPool", "IpamDriver.ReleasePool", "IpamDriver.RequestAddress", "IpamDriver.ReleaseAddress"},
	"authz":          {"AuthZPlugin.AuthZReq", "AuthZPlugin.AuthZRes"},
	"LogDriver":      {"LogDriver.StartLogging", "LogDriver.StopLogging"},
	"secretprovider": {"SecretProvider.GetSecret"},
}

// protocol tests what is the same for all capabilities.
func (s *suite) protocol(t *testing.T) {
	for _, verb := range []string{http.MethodPost, http.MethodGet} {
		for _, body := range []any{nil, "{}", "no JSON at all"} {
			a, err := s.try(t.Context(), dockerHeader, verb, "Plugin.Activate", body)
			if err != nil {
				t.Fatal(err)
			}
			var m struct{ Implements []string }
			a.into(t, &m)
			got, want := slices.Sorted(slices.Values(m.Implements)), slices.Sorted(slices.Values(s.Implements))
			if !slices.Equal(got, want) {
				t.Errorf("%s with body %v announces %q, want %q", verb, body, got, want)
			}
			if ct := a.header.Get("Content-Type"); !strings.HasPrefix(ct, "application/") || !strings.HasSuffix(ct, "json") {
				t.Errorf("content type %q", ct)
			}
		}
	}
	if a := s.call(t, dockerHeader, "Plugin.NoSuchMethod", "{}"); a.status != http.StatusNotFound {
		t.Errorf("an unknown method: status %d, hosts take only 404 for not implemented", a.status)
	}
	for _, c := range s.Implements {
		for _, method := range needArguments[c] {
			for _, body := range []any{nil, "", " \n", "null"} {
				if a := s.call(t, dockerHeader, method, body); a.status != http.StatusBadRequest {
					t.Errorf("%s with body %q: status %d, want 400: %s", method, body, a.status, a.body)
				}
			}
			for _, body := range []string{"{", "[]", `{"`} {
				a := s.call(t, dockerHeader, method, body)
				a.refused(t)
			}
		}
	}
	s.concurrent(t)
}

// concurrent tests that calls do not wait for each other's turn to fail.
func (s *suite) concurrent(t *testing.T) {
	var wg sync.WaitGroup
	errs := make([]error, 32)
	for i := range errs {
		wg.Go(func() {
			a, err := s.try(t.Context(), dockerHeader, http.MethodPost, "Plugin.Activate", nil)
			if err == nil && a.status != http.StatusOK {
				err = fmt.Errorf("status %d", a.status)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
}
