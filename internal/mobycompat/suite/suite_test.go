package suite

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/plugingetter"
	"github.com/outletd/outlet/plugins/tlsconfig"
)

// specs makes a spec directory of its own, in the one way that works with both
// packages and needs no root: inside RootlessKit, below the home directory.
func specs(t *testing.T) string {
	t.Helper()
	home := t.TempDir()
	t.Setenv("ROOTLESSKIT_STATE_DIR", home)
	t.Setenv("HOME", home)
	t.Setenv("XDG_CONFIG_HOME", filepath.Join(home, "config"))
	dir := filepath.Join(home, ".local/lib/docker/plugins")
	must(t, os.MkdirAll(dir, 0o755))
	return dir
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, file, content string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	must(t, os.WriteFile(file, []byte(content), 0o644))
}

// serve is a plugin on TCP. Each method is answered by its function.
func serve(t *testing.T, methods map[string]http.HandlerFunc) string {
	t.Helper()
	srv := httptest.NewServer(handler(methods))
	t.Cleanup(srv.Close)
	return srv.URL
}

func handler(methods map[string]http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := methods[path.Base(r.URL.Path)]
		if h == nil {
			http.NotFound(w, r)
			return
		}
		h(w, r)
	})
}

func reply(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
}

func plugin(t *testing.T, implements string) string {
	return serve(t, map[string]http.HandlerFunc{"Plugin.Activate": reply(`{"Implements":["` + implements + `"]}`)})
}

// script serves a Unix socket, one function for each connection.
func script(t *testing.T, each ...func(net.Conn)) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", file)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				each[min(i, len(each)-1)](c)
			}()
		}
	}()
	return "unix://" + file
}

func readBody(c net.Conn) string {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return ""
	}
	b, _ := io.ReadAll(req.Body)
	return string(b)
}

const answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"

// What has to be the same.

var (
	_ plugingetter.CompatPlugin = (*plugins.Plugin)(nil)
	_                           = plugingetter.Lookup + plugingetter.Acquire + plugingetter.Release
)

func TestSameCallAndStream(t *testing.T) {
	addr := serve(t, map[string]http.HandlerFunc{
		"X.Echo": func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Accept") != plugins.VersionMimetype {
				http.Error(w, "accept", 400)
			}
			io.Copy(w, r.Body)
		},
		"X.Fail": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, `{"Err":"exit 32"}`, 500) },
	})
	c, err := plugins.NewClient(addr, &tlsconfig.Options{InsecureSkipVerify: true})
	must(t, err)
	type value struct{ A, B string }
	var got value
	must(t, c.Call("X.Echo", value{"a", "b"}, &got))
	must(t, c.CallWithOptions("X.Echo", value{"a", "b"}, &got, plugins.WithRequestTimeout(time.Minute)))
	must(t, c.SendFile("X.Echo", strings.NewReader(`{"A":"c"}`), &got))
	if got != (value{"c", "b"}) {
		t.Errorf("%+v", got)
	}
	s, err := c.Stream("X.Echo", value{"a", "b"})
	must(t, err)
	defer s.Close()
	if b, err := io.ReadAll(s); string(b) != "{\"A\":\"a\",\"B\":\"b\"}\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if err := c.Call("X.Fail", nil, nil); err == nil || err.Error() != "X.Fail: exit 32" {
		t.Errorf("error %v", err)
	}
	if err := c.Call("X.None", nil, nil); !plugins.IsNotFound(err) {
		t.Errorf("error %v", err)
	}
}

func TestSameGet(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "same.spec"), plugin(t, "VolumeDriver"))
	p, err := plugins.Get("same", "VolumeDriver")
	must(t, err)
	if p.Name() != "same" || p.Client() == nil || !p.IsV1() || p.ScopedPath("/x") != "/x" ||
		p.Protocol() != plugins.ProtocolSchemeHTTPV1 || !slices.Equal(p.Manifest.Implements, []string{"VolumeDriver"}) {
		t.Errorf("%+v", p)
	}
	_, err = plugins.Get("same", "NetworkDriver")
	if !errors.Is(err, plugins.ErrNotImplements) ||
		err.Error() != `Plugin does not implement the requested driver: plugin="same", requested implementation="NetworkDriver"` {
		t.Errorf("error %v", err)
	}
	if _, err := plugins.Get("", "VolumeDriver"); err == nil || err.Error() != "Unable to find plugin without name" {
		t.Errorf("error %v", err)
	}
	r := plugins.NewLocalRegistry()
	if _, err := r.Plugin("other"); !errors.Is(err, plugins.ErrNotFound) || err.Error() != "could not find plugin other in v1 plugin registry: plugin not found" {
		t.Errorf("error %v", err)
	}
}

func TestSameDefinitions(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "j.json"), `{"Name":"other","Addr":"https://example.com/docker/plugin","TLSConfig":{"CAFile":"/ca.pem","CertFile":"/c.pem","KeyFile":"/k.pem"}}`)
	write(t, filepath.Join(dir, "s/s.spec"), " tcp://localhost:8080\n")
	r := plugins.NewLocalRegistry()
	p, err := r.Plugin("j")
	must(t, err)
	if p.Name() != "j" || p.Addr != "https://example.com/docker/plugin" || p.TLSConfig.CAFile != "/ca.pem" || p.TLSConfig.KeyFile != "/k.pem" {
		t.Errorf("%+v %+v", p, p.TLSConfig)
	}
	if p, err = r.Plugin("s"); err != nil || p.Addr != "tcp://localhost:8080" {
		t.Errorf("%+v, %v", p, err)
	}
	names, err := r.Scan()
	// Both packages read Docker's directory of sockets, too, where others may
	// have some at this moment.
	mine := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name != "j" && name != "s" })
	if err != nil || !slices.Equal(mine, []string{"j", "s"}) {
		t.Errorf("%q, %v", names, err)
	}
	if p := plugins.NewLocalPlugin("x", "unix:///x"); p.Name() != "x" || p.Addr != "unix:///x" {
		t.Errorf("%+v", p)
	}
}

func TestSameHandlers(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "handled.spec"), plugin(t, "Sub"))
	var ran []string
	plugins.Handle("Sub", func(name string, c *plugins.Client) {
		if c != nil {
			ran = append(ran, name)
		}
	})
	for range 2 {
		_, err := plugins.Get("handled", "Sub")
		must(t, err)
	}
	r := plugins.NewLocalRegistry()
	all, err := r.GetAll("Sub")
	if err != nil || len(all) != 1 || all[0].Name() != "handled" || !slices.Equal(ran, []string{"handled"}) {
		t.Errorf("%v, %v, handlers ran for %q", all, err, ran)
	}
}

// Rows of docs/spec/v1-plugins.md §9 that show through Moby's functions.

func TestD01(t *testing.T) {
	bodies := make(chan string, 8)
	addr := script(t, func(c net.Conn) { bodies <- readBody(c) }, func(c net.Conn) {
		bodies <- readBody(c)
		io.WriteString(c, answer)
	})
	c, err := plugins.NewClient(addr, nil)
	must(t, err)
	must(t, c.Call("VolumeDriver.Path", map[string]string{"Name": "a"}, nil))
	if first, second := <-bodies, <-bodies; first != second || first == "" {
		t.Errorf("the plugin got %q and then %q", first, second)
	}
}

func TestD02(t *testing.T) {
	var delivered atomic.Int32
	addr := script(t, func(c net.Conn) {
		if readBody(c); delivered.Add(1) > 1 {
			io.WriteString(c, answer)
		}
	})
	c, err := plugins.NewClient(addr, nil)
	must(t, err)
	if err := c.Call("VolumeDriver.Mount", map[string]string{"Name": "a"}, nil); err == nil || delivered.Load() != 1 {
		t.Errorf("delivered %d times, %v", delivered.Load(), err)
	}
}

func TestD03(t *testing.T) {
	addr := script(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	c, err := plugins.NewClientWithTimeout(addr, nil, 100*time.Millisecond)
	must(t, err)
	start := time.Now()
	if err := c.Call("VolumeDriver.List", nil, nil); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("a call with a timeout of 100ms took %v: %v", time.Since(start), err)
	}
}

func TestD04(t *testing.T) {
	addr := serve(t, map[string]http.HandlerFunc{"LogDriver.ReadLogs": func(w http.ResponseWriter, _ *http.Request) {
		for range 10 {
			io.WriteString(w, "x")
			w.(http.Flusher).Flush()
			time.Sleep(300 * time.Millisecond)
		}
	}})
	// Long enough for the head of the answer on a busy machine.
	c, err := plugins.NewClientWithTimeout(addr, nil, 2*time.Second)
	must(t, err)
	s, err := c.Stream("LogDriver.ReadLogs", nil)
	must(t, err)
	defer s.Close()
	if b, err := io.ReadAll(s); len(b) != 10 || err != nil {
		t.Errorf("%q, %v", b, err)
	}
}

func TestD05(t *testing.T) {
	addr := serve(t, map[string]http.HandlerFunc{"X.Y": func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(500)
		w.Write(make([]byte, 32<<20))
	}})
	c, err := plugins.NewClient(addr, nil)
	must(t, err)
	if err := c.Call("X.Y", nil, nil); err == nil || len(err.Error()) > 1<<20 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestD06(t *testing.T) {
	var opened atomic.Int32
	var barrier sync.WaitGroup
	srv := httptest.NewUnstartedServer(handler(map[string]http.HandlerFunc{"X.Y": func(w http.ResponseWriter, _ *http.Request) {
		barrier.Done()
		barrier.Wait()
		io.WriteString(w, "{}")
	}}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	c, err := plugins.NewClient(srv.URL, nil)
	must(t, err)
	for range 3 {
		barrier.Add(32)
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				var v struct{}
				if err := c.Call("X.Y", nil, &v); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	if n := opened.Load(); n != 32 {
		t.Errorf("%d connections for 32 callers in three rounds", n)
	}
}

func TestD07(t *testing.T) {
	dir := specs(t)
	want := []string{filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "docker/plugins"), dir}
	if got := plugins.SpecsPaths(); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestD08(t *testing.T) {
	var elsewhere atomic.Int32
	other := serve(t, map[string]http.HandlerFunc{"X.Y": func(w http.ResponseWriter, _ *http.Request) {
		elsewhere.Add(1)
		io.WriteString(w, "{}")
	}})
	addr := serve(t, map[string]http.HandlerFunc{"X.Y": func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other+"/X.Y", http.StatusTemporaryRedirect)
	}})
	c, err := plugins.NewClient(addr, nil)
	must(t, err)
	if err := c.Call("X.Y", nil, nil); err == nil || elsewhere.Load() != 0 {
		t.Errorf("%d calls went elsewhere, %v", elsewhere.Load(), err)
	}
}

func TestD09(t *testing.T) {
	dir := specs(t)
	srv := httptest.NewUnstartedServer(handler(map[string]http.HandlerFunc{"Plugin.Activate": reply(`{"Implements":["D09"]}`)}))
	srv.Config.ErrorLog = nil
	srv.StartTLS()
	t.Cleanup(srv.Close)
	write(t, filepath.Join(dir, "spec.spec"), srv.URL)
	write(t, filepath.Join(dir, "json.json"), fmt.Sprintf(`{"Addr":%q,"TLSConfig":{"InsecureSkipVerify":false}}`, srv.URL))
	r := plugins.NewLocalRegistry()
	all, err := r.GetAll("D09")
	if len(all) != 0 || err != nil {
		t.Errorf("%d plugins whose certificate nobody knows are used, %v", len(all), err)
	}
}

func TestD10(t *testing.T) {
	dir := specs(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	first := make(chan byte, 64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 1)
			if n, _ := c.Read(b); n == 1 {
				first <- b[0]
			}
			c.Close()
		}
	}()
	write(t, filepath.Join(dir, "p.json"), fmt.Sprintf(`{"Addr":"tcp://%s","TLSConfig":{"InsecureSkipVerify":true}}`, l.Addr()))
	r := plugins.NewLocalRegistry()
	go r.GetAll("D10")
	if b := <-first; b != 22 { // a TLS handshake
		t.Errorf("the first byte is %q, which is no TLS", b)
	}
}

func TestD11(t *testing.T) {
	dir := specs(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/base/path/Plugin.Activate", reply(`{"Implements":["D11"]}`))
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	write(t, filepath.Join(dir, "p.spec"), srv.URL+"/base/path")
	r := plugins.NewLocalRegistry()
	if all, err := r.GetAll("D11"); len(all) != 1 || err != nil {
		t.Errorf("%d plugins, %v", len(all), err)
	}
}

func TestD12(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "p.spec"), "localhost:8080")
	r := plugins.NewLocalRegistry()
	if p, err := r.Plugin("p"); err == nil {
		t.Errorf("%q is taken for an address", p.Addr)
	}
}

func TestD13(t *testing.T) {
	if _, err := plugins.NewClient("unix://var/run/x.sock", nil); err == nil {
		t.Error("a socket with a relative path is accepted")
	}
}

func TestD14(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "../other/x.spec"), "tcp://localhost:1")
	r := plugins.NewLocalRegistry()
	if p, err := r.Plugin("../other/x"); !errors.Is(err, plugins.ErrNotFound) {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestD15(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "p/p.conf"), "")
	write(t, filepath.Join(dir, "p/p.spec"), "tcp://localhost:1")
	r := plugins.NewLocalRegistry()
	if names, err := r.Scan(); !slices.Contains(names, "p") || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

func TestD16(t *testing.T) {
	dir := specs(t)
	addr := plugin(t, "D16")
	write(t, filepath.Join(dir, "p.spec"), addr)
	write(t, filepath.Join(dir, "p.json"), fmt.Sprintf(`{"Addr":%q}`, addr))
	r := plugins.NewLocalRegistry()
	if all, err := r.GetAll("D16"); len(all) != 1 || err != nil {
		t.Errorf("%d plugins, %v", len(all), err)
	}
}

func TestD17(t *testing.T) {
	dir := specs(t)
	must(t, os.Remove(dir))
	write(t, dir, "a file where a directory is expected")
	r := plugins.NewLocalRegistry()
	if _, err := r.Scan(); err != nil {
		t.Errorf("one unreadable directory fails the scan: %v", err)
	}
}

func TestD18(t *testing.T) {
	if _, err := plugins.NewClient("unix:///"+strings.Repeat("x", 107), nil); err == nil {
		t.Error("a path of 108 bytes is accepted, which no socket can have")
	}
}

func TestD20(t *testing.T) {
	dir := specs(t)
	file := filepath.Join(dir, "moved.spec")
	write(t, file, plugin(t, "D20"))
	_, err := plugins.Get("moved", "D20")
	must(t, err)
	addr := plugin(t, "D20")
	must(t, os.Remove(file))
	write(t, file, addr)
	p, err := plugins.Get("moved", "D20")
	must(t, err)
	if p.Addr != addr {
		t.Errorf("still at %s, which moved to %s", p.Addr, addr)
	}
}

func TestD21(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "dead.spec"), "unix:///nowhere/dead.sock")
	write(t, filepath.Join(dir, "good.spec"), plugin(t, "D21"))
	r := plugins.NewLocalRegistry()
	start := time.Now()
	if all, err := r.GetAll("D21"); len(all) != 1 || err != nil || time.Since(start) > 10*time.Second {
		t.Errorf("%d plugins after %v, %v", len(all), time.Since(start), err)
	}
}

func TestD23(t *testing.T) {
	dir := specs(t)
	var handshakes atomic.Int32
	write(t, filepath.Join(dir, "broken.spec"), serve(t, map[string]http.HandlerFunc{"Plugin.Activate": func(w http.ResponseWriter, _ *http.Request) {
		handshakes.Add(1)
		time.Sleep(time.Second) // the others come meanwhile
		http.Error(w, "broken", 500)
	}}))
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := plugins.Get("broken", "D23"); err == nil {
				t.Error("a broken plugin is active")
			}
		})
	}
	wg.Wait()
	if n := handshakes.Load(); n != 1 {
		t.Errorf("%d handshakes for ten users at once", n)
	}
}

func TestD25(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "p.spec"), plugin(t, "D25"))
	plugins.Handle("D25", func(string, *plugins.Client) {
		plugins.Handle("other", func(string, *plugins.Client) {})
	})
	_, err := plugins.Get("p", "D25")
	must(t, err)
}

func TestD26(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "p.spec"), plugin(t, "MetricsCollector"))
	plugins.Handle("MetricsCollector", func(name string, _ *plugins.Client) {
		if _, err := plugins.Get(name, "MetricsCollector"); err != nil {
			t.Error(err)
		}
	})
	_, err := plugins.Get("p", "MetricsCollector")
	must(t, err)
}

func TestD28(t *testing.T) {
	dir := specs(t)
	write(t, filepath.Join(dir, "p.spec"), plugin(t, "D28"))
	var first, second int
	plugins.Handle("D28", func(string, *plugins.Client) { first++ })
	_, err := plugins.Get("p", "D28")
	must(t, err)
	plugins.Handle("D28", func(string, *plugins.Client) { second++ })
	_, err = plugins.Get("p", "D28")
	must(t, err)
	if first != 1 || second != 1 {
		t.Errorf("the handlers ran %d and %d times", first, second)
	}
}

func TestD31(t *testing.T) {
	c, err := plugins.NewClient(serve(t, nil), nil)
	must(t, err)
	if err := fmt.Errorf("wrapped: %w", c.Call("X.Y", nil, nil)); !plugins.IsNotFound(err) {
		t.Errorf("%v is not known as not found", err)
	}
}
