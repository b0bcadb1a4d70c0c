package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

// serve runs a daemon of one handler on a unix socket.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "ot") //nolint:usetesting // short: a socket's path has 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "o.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	srv.Start()
	t.Cleanup(srv.Close)
	c, err := New(Options{Host: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() }) // never fails
	return c
}

func TestHostsAreReadAsPeopleWriteThem(t *testing.T) {
	for s, want := range map[string]string{
		"/run/o.sock":        "unix:///run/o.sock",
		"unix:///run/o.sock": "unix:///run/o.sock",
		"tcp://host:2376":    "tcp://host:2376",
		"tcp://host:2376/":   "tcp://host:2376",
		"tcp://:2376":        "tcp://127.0.0.1:2376",
		"tcp://[::1]:2376":   "tcp://[::1]:2376",
		"https://host:2376":  "tcp://host:2376",
	} {
		h, err := ParseHost(s)
		if err != nil || h.String() != want {
			t.Errorf("%s: %s, %v, want %s", s, h, err, want)
		}
	}
	for _, s := range []string{"", "run/o.sock", "unix://", "tcp://host", "tcp://host:", "tcp://host:1/path", "npipe:////./pipe/x", "ssh://h"} {
		if _, err := ParseHost(s); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func FuzzParseHost(f *testing.F) {
	f.Add("unix:///run/o.sock")
	f.Add("tcp://[::1]:2376/")
	f.Fuzz(func(t *testing.T, s string) {
		h, err := ParseHost(s)
		if err != nil {
			return
		}
		again, err := ParseHost(h.String())
		if err != nil || again != h {
			t.Errorf("%q is %v, then %v, %v", s, h, again, err)
		}
	})
}

func TestStatusesHaveTheirClasses(t *testing.T) {
	for status, class := range map[int]error{
		400: errdefs.ErrInvalidArgument, 401: errdefs.ErrUnauthenticated, 403: errdefs.ErrPermissionDenied,
		404: errdefs.ErrNotFound, 409: errdefs.ErrConflict, 413: errdefs.ErrResourceExhausted,
		500: errdefs.ErrInternal, 501: errdefs.ErrNotImplemented, 503: errdefs.ErrUnavailable, 304: errdefs.ErrNotModified,
	} {
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/_ping" {
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(status)
			if status != 304 {
				fmt.Fprintln(w, `{"message":"why"}`)
			}
		})
		_, err := c.Inspect(t.Context(), "x")
		var e *Error
		if !errors.Is(err, class) || !errors.As(err, &e) || e.Status != status {
			t.Errorf("%d: %v", status, err)
		}
		if status != 304 && err.Error() != "why" {
			t.Errorf("%d: %q", status, err)
		}
	}
}

func TestAnErrorWithoutATextStillSaysSomething(t *testing.T) {
	for body, want := range map[string]string{
		"":               "the daemon answered 502 (Bad Gateway) and gave no reason",
		"plain text\n":   "plain text",
		`{"message":""}`: `{"message":""}`,
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			w.WriteHeader(502)
			io.WriteString(w, body)
		})
		if _, err := c.Info(t.Context()); err == nil || err.Error() != want {
			t.Errorf("%q: %v", body, err)
		}
	}
}

func TestTheVersionIsNegotiatedOnce(t *testing.T) {
	for server, want := range map[string]string{"1.51": "1.51", "1.44": "1.44", "1.60": "1.51", "1.25": "1.25", "": "1.51", "2.0": "1.51"} {
		var paths []string
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			paths = append(paths, r.Method+" "+r.URL.Path)
			if server != "" {
				w.Header().Set("Api-Version", server)
			}
			if r.Method == http.MethodGet {
				fmt.Fprint(w, "[]")
			}
		})
		for range 2 {
			if _, err := c.List(t.Context(), outlet.ListFilter{}); err != nil {
				t.Fatal(err)
			}
		}
		if d := cmp.Diff([]string{"HEAD /_ping", "GET /v" + want + "/plugins", "GET /v" + want + "/plugins"}, paths); d != "" {
			t.Errorf("%s:\n%s", server, d)
		}
	}
	for _, server := range []string{"1.24", "1", "x", "1.-1"} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Api-Version", server) })
		if _, err := c.List(t.Context(), outlet.ListFilter{}); err == nil {
			t.Errorf("%q was accepted", server)
		}
	}
}

func TestAFixedVersionIsUsedWithoutAsking(t *testing.T) {
	var paths []string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		paths = append(paths, r.URL.Path)
		fmt.Fprint(w, "{}")
	})
	c.version = "1.30"
	if _, err := c.Version(t.Context()); err != nil || len(paths) != 1 || paths[0] != "/v1.30/version" {
		t.Errorf("%v, %v", paths, err)
	}
	if _, err := New(Options{APIVersion: "new"}); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("got %v", err)
	}
}

func TestARefusedPingIsTriedWithGet(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Api-Version", "1.40")
		w.Header().Set("Ostype", "linux")
	})
	p, err := c.Ping(t.Context())
	if err != nil || p.APIVersion != "1.40" || p.OSType != "linux" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestNobodyListeningSaysHowToStartADaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale.sock")
	l, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	for _, path := range []string{filepath.Join(dir, "none.sock"), stale} {
		c, err := New(Options{Host: path})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Ping(t.Context())
		var e *ConnectError
		if !errors.As(err, &e) || !errors.Is(err, errdefs.ErrUnavailable) {
			t.Fatalf("%s: %v", path, err)
		}
		if want := "no daemon answers at " + path + `: start one with "outlet daemon"`; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q", err)
		}
	}
}

func TestWhatWasCancelledIsNoFailureOfTheDaemon(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	time.AfterFunc(20*time.Millisecond, func() { cancel(cause) })
	if _, err := c.Info(ctx); !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
}

func TestADaemonThatHangsUpIsNamed(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		conn.Close()
	})
	_, err := c.Info(t.Context())
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "the daemon at "+c.host.Address) {
		t.Errorf("got %v", err)
	}
	_, _, err = c.Create(t.Context(), "x", strings.NewReader("x"), outlet.CreateOptions{})
	if !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "hung up without an answer") {
		t.Errorf("got %v", err)
	}
}

func TestADaemonThatIsNotOutletIsNamed(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(404)
		fmt.Fprintln(w, `{"message":"page not found"}`)
	})
	_, err := c.Info(t.Context())
	if !errors.Is(err, errdefs.ErrNotImplemented) || !strings.Contains(err.Error(), "it is not Outlet, or older than this client") {
		t.Errorf("got %v", err)
	}
	_, _, err = c.Create(t.Context(), "x", strings.NewReader("x"), outlet.CreateOptions{})
	if !errors.Is(err, errdefs.ErrNotImplemented) {
		t.Errorf("got %v", err)
	}
}

func TestNamesCannotLeadToAnotherRoute(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) })
	for _, name := range []string{"", " ", "..", "a/../b", "/a", "a/", "a//b", "."} {
		if _, err := c.Inspect(t.Context(), name); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("plugin %q: %v", name, err)
		}
		if err := c.Set(t.Context(), name, outlet.SetOptions{Unset: []string{"x"}}); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("plugin %q: %v", name, err)
		}
	}
	for _, name := range []string{"", "..", "."} {
		if _, err := c.VolumeInspect(t.Context(), name); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("volume %q: %v", name, err)
		}
	}
}

func TestNamesArriveAsTheyAre(t *testing.T) {
	var path string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		fmt.Fprint(w, "{}")
	})
	c.version = "1.51"
	for _, name := range []string{"localhost:5000/a/b/c:1", "x", "a b%2F?#é"} {
		if _, err := c.Inspect(t.Context(), name); err != nil || path != "/v1.51/plugins/"+name+"/json" {
			t.Errorf("%q arrived as %q, %v", name, path, err)
		}
		if _, err := c.VolumeMount(t.Context(), name, ""); err != nil || path != "/outlet/v1/volumes/"+name+"/mount" {
			t.Errorf("%q arrived as %q, %v", name, path, err)
		}
	}
}

func TestAnEarlyRefusalIsReadWhileMuchIsLeftToSend(t *testing.T) {
	for range 20 { // it used to be a matter of luck
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 100))
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Connection", "close")
			w.WriteHeader(409)
			fmt.Fprintln(w, `{"message":"the name is taken"}`)
		})
		_, _, err := c.Create(t.Context(), "x", io.LimitReader(zeros{}, 1<<30), outlet.CreateOptions{})
		if !errors.Is(err, errdefs.ErrConflict) || err.Error() != "the name is taken" {
			t.Fatalf("got %v", err)
		}
	}
}

// A source can be used again once it was refused, for another name.
func TestARefusedSourceIsNotReadAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c, err := New(Options{Host: "/o.sock", Dial: func(context.Context, string, string) (net.Conn, error) { return ours, nil }})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer theirs.Close()
			for in := bufio.NewReader(theirs); ; {
				if line, err := in.ReadString('\n'); err != nil || line == "\r\n" {
					break
				}
			}
			io.WriteString(theirs, "HTTP/1.1 409 Conflict\r\nContent-Length: 5\r\nConnection: close\r\n\r\ntaken")
		}()
		source := new(slow)
		if _, _, err := c.Create(t.Context(), "x", source, outlet.CreateOptions{}); !errors.Is(err, errdefs.ErrConflict) {
			t.Errorf("got %v", err)
		}
		if n := source.reads.Load(); n != 0 {
			t.Errorf("%d reads are under way", n)
		}
		time.Sleep(time.Second) // or it could not end
	})
}

// slow takes its time, as a disk may.
type slow struct{ reads atomic.Int32 }

func (s *slow) Read(p []byte) (int, error) {
	s.reads.Add(1)
	defer s.reads.Add(-1)
	time.Sleep(50 * time.Millisecond)
	return len(p), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestASourceThatFailsIsTheErrorAndEndsTheRequest(t *testing.T) {
	served := make(chan error, 1)
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.Copy(io.Discard, r.Body)
		served <- err
	})
	cause := errors.New("the disk is gone")
	_, _, err := c.Create(t.Context(), "x", io.MultiReader(strings.NewReader("begins"), &failing{cause}), outlet.CreateOptions{})
	if !errors.Is(err, cause) {
		t.Errorf("got %v", err)
	}
	if err := <-served; err == nil {
		t.Error("the daemon takes what it got for the whole")
	}
}

// uncomparable is an error as archive/tar makes them: == on it panics.
type uncomparable []string

func (u uncomparable) Error() string { return strings.Join(u, ", ") }

func TestASourceMayFailWithAnyError(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	_, _, err := c.Create(t.Context(), "x", &failing{uncomparable{"bad", "header"}}, outlet.CreateOptions{})
	if u := uncomparable(nil); !errors.As(err, &u) {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f *failing) Read([]byte) (int, error) { return 0, f.err }

func TestCreateEndsWithItsContext(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) })
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close() // always nil
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, _, err := c.Create(ctx, "x", r, outlet.CreateOptions{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestCreateSendsAllAndGivesTheWarnings(t *testing.T) {
	sent := bytes.Repeat([]byte("0123456789"), 1<<18)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got, err := io.ReadAll(r.Body)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d bytes arrived, %v", len(got), err)
		}
		if q := r.URL.Query(); q.Get("name") != "a/b:c" || q["env"][1] != "C=D" || q.Get("serviceID") != "s" {
			t.Errorf("query %v", q)
		}
		fmt.Fprint(w, `{"Plugin":{"Name":"a/b:c"},"Warnings":["odd"]}`)
	})
	p, warnings, err := c.Create(t.Context(), "a/b:c", bytes.NewReader(sent), outlet.CreateOptions{ServiceID: "s", Env: []string{"A=B", "C=D"}})
	if err != nil || p.Name != "a/b:c" || len(warnings) != 1 {
		t.Errorf("%v, %v, %v", p.Name, warnings, err)
	}
}

func TestAnErrorInsideAStreamIsAnError(t *testing.T) {
	for line, want := range map[string]*Error{
		`{"error":"gone"}`: {Message: "gone"},
		`{"errorDetail":{"message":"incorrect privileges","code":400},"error":"x"}`: {Message: "incorrect privileges", Status: 400},
		`{"error":""}`: {Message: "the daemon reported an error without a reason"},
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprintf(w, "{\"stream\":\"stdout\",\"line\":\"one\"}\r\n%s\n", line)
		})
		var got []string
		err := c.Logs(t.Context(), "x", outlet.LogOptions{Tail: -1}, func(e outlet.LogEntry) error {
			got = append(got, e.Line)
			return nil
		})
		var e *Error
		if !errors.As(err, &e) || *e != *want || len(got) != 1 {
			t.Errorf("%s: %#v, after %q", line, err, got)
		}
	}
}

func TestTheCallersErrorEndsAStream(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			fmt.Fprintln(w, `{"Type":"plugin","Action":"enable"}`)
		}
	})
	c.version = "1.51"
	enough := errors.New("enough")
	if err := c.Events(t.Context(), EventOptions{}, func(outlet.Message) error { return enough }); err != enough { //nolint:errorlint // as it is
		t.Errorf("got %v", err)
	}
}

func TestALineWithoutAnEndIsBounded(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.Copy(w, io.LimitReader(zeros{}, 64<<20)) })
	err := c.Logs(t.Context(), "x", outlet.LogOptions{}, func(outlet.LogEntry) error { return nil })
	if !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("got %v", err)
	}
}

func TestCallGivesThePluginsStatusAndAnswer(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("Outlet-Plugin-Status", r.URL.Query().Get("method"))
		fmt.Fprintf(w, "%s %q", r.Header.Get("Content-Type"), body)
	})
	status, answer, err := c.Call(t.Context(), "x", "503", []byte("{}"))
	if err != nil || status != 503 || string(answer) != `application/json "{}"` {
		t.Errorf("%d, %s, %v", status, answer, err)
	}
	status, answer, err = c.Call(t.Context(), "x", "200", nil)
	if err != nil || status != 200 || string(answer) != ` ""` {
		t.Errorf("%d, %s, %v", status, answer, err)
	}
	if _, _, err = c.Call(t.Context(), "x", "y", nil); err == nil {
		t.Error("a status that is no number was accepted")
	}
}

func TestSettingsChooseTheirRoute(t *testing.T) {
	type sent struct{ path, body string }
	var got sent
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got = sent{r.URL.Path, string(body)}
		w.WriteHeader(204)
	})
	c.version = "1.51"
	for _, tt := range []struct {
		o    outlet.SetOptions
		want sent
	}{
		{outlet.SetOptions{Set: []string{"A=1"}}, sent{"/v1.51/plugins/x/set", `["A=1"]`}},
		{outlet.SetOptions{}, sent{"/v1.51/plugins/x/set", `null`}},
		{outlet.SetOptions{Args: []string{}}, sent{"/outlet/v1/plugins/set", `{"Args":[]}`}},
		{outlet.SetOptions{Set: []string{"A"}, Unset: []string{"B"}}, sent{"/outlet/v1/plugins/set", `{"Set":["A"],"Unset":["B"]}`}},
	} {
		if err := c.Set(t.Context(), "x", tt.o); err != nil || got != tt.want {
			t.Errorf("%+v: %+v, %v", tt.o, got, err)
		}
	}
}

func TestTLSIsSpokenOverTCP(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Api-Version", "1.51")
	}))
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.StartTLS()
	defer srv.Close()
	host := "tcp://" + srv.Listener.Addr().String()
	good := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	for name, tt := range map[string]struct {
		tls *tls.Config
		ok  bool
	}{
		"a CA that signed it": {good, true},
		"one that did not":    {&tls.Config{MinVersion: tls.VersionTLS12}, false},
		"plain":               {nil, false},
	} {
		c, err := New(Options{Host: host, TLS: tt.tls})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Ping(t.Context()); (err == nil) != tt.ok {
			t.Errorf("%s: %v", name, err)
		}
		c.Close() // never fails
	}
}

func TestTheEnvironmentIsUnderstood(t *testing.T) {
	env := map[string]string{"OUTLET_HOST": "tcp://x:1", "OUTLET_API_VERSION": "1.40"}
	o, err := FromEnv(func(k string) string { return env[k] })
	if err != nil || o.Host != "tcp://x:1" || o.APIVersion != "1.40" || o.TLS != nil {
		t.Errorf("%+v, %v", o, err)
	}
	env["OUTLET_TLS_VERIFY"] = "1"
	if _, err := FromEnv(func(k string) string { return env[k] }); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("no certificates: %v", err)
	}
	env["OUTLET_CERT_PATH"] = t.TempDir()
	if _, err := FromEnv(func(k string) string { return env[k] }); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "ca.pem") {
		t.Errorf("no files: %v", err)
	}
}

func TestFiltersAreTheEngines(t *testing.T) {
	var q string
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		q = r.URL.Query().Get("filters")
		fmt.Fprint(w, "[]")
	})
	yes := true
	if _, err := c.List(t.Context(), outlet.ListFilter{Enabled: &yes, Capabilities: []string{"volumedriver"}}); err != nil {
		t.Fatal(err)
	}
	var got map[string]map[string]bool
	if err := json.Unmarshal([]byte(q), &got); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(map[string]map[string]bool{"enabled": {"true": true}, "capability": {"volumedriver": true}}, got); d != "" {
		t.Error(d)
	}
}
