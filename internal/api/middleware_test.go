package api

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMiddlewaresCanDecide shows that what an authorization chain needs is
// possible: it sees the route and the whole body before the handler, and the
// whole answer before the client.
func TestMiddlewaresCanDecide(t *testing.T) {
	var mu sync.Mutex
	var seen []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, s)
	}
	outer := func(rt Route, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			note("outer " + rt.Method + " " + rt.Pattern + " " + r.RequestURI)
			if rt.Streams || rt.Hijacks || !rt.JSONBody {
				next.ServeHTTP(w, r)
				return
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				t.Error(err)
			}
			note("body " + string(body))
			r.Body = io.NopCloser(bytes.NewReader(body))
			held := httptest.NewRecorder()
			next.ServeHTTP(held, r)
			note("answer " + strings.TrimSpace(held.Body.String()))
			w.WriteHeader(http.StatusForbidden)
		})
	}
	inner := func(_ Route, next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			note("inner")
			next.ServeHTTP(w, r)
		})
	}
	g := newRig(t, func(c *Config) { c.Middlewares = []Middleware{outer, inner} })
	if a := g.do("POST", "/v1.40/plugins/foo%2Fbar/set?x=1", "application/json", `["X=1"]`); a.status != 403 || a.body != "" {
		t.Errorf("%v", a)
	}
	g.do("GET", "/v1.99/plugins", "", "")
	g.do("GET", "/nonsense", "", "") // has no route
	want := []string{
		"outer POST /plugins/{name}/set /v1.40/plugins/foo%2Fbar/set?x=1", `body ["X=1"]`, "inner",
		`answer {"message":"setting \"X=1\" not found in the plugin configuration"}`,
		"outer GET /plugins /v1.99/plugins", "inner",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestTLS(t *testing.T) {
	g := newRig(t)
	// httptest has a certificate for example.com.
	ts := httptest.NewUnstartedServer(nil)
	ts.StartTLS()
	defer ts.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.serving.Go(func() {
		if err := g.Serve(tls.NewListener(l, &tls.Config{Certificates: ts.TLS.Certificates})); err != nil {
			t.Error(err)
		}
	})
	pool := ts.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	for name, c := range map[string]struct {
		serverName, host string
		status           int
	}{
		"the name of the handshake":    {"example.com", "example.com", 200},
		"another name":                 {"example.com", "evil.example", 403},
		"an address, without the name": {"", "127.0.0.1", 200},
	} {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: c.serverName}, ForceAttemptHTTP2: true}
			defer transport.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+l.Addr().String()+"/plugins", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = c.host
			res, err := (&http.Client{Transport: transport}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close() // not read
			if res.StatusCode != c.status || res.Proto != "HTTP/1.1" {
				t.Errorf("%s %d", res.Proto, res.StatusCode)
			}
		})
	}
}

func TestAMissingBackendIsAnError(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("there was none")
	}
}
