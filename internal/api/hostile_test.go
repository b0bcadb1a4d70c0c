package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

func TestBodiesOfWrongLength(t *testing.T) {
	patient, impatient := newRig(t), newRig(t, func(c *Config) { c.BodyTimeout = 100 * time.Millisecond })
	const set = "POST /plugins/foo/bar/set HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
	for name, c := range map[string]struct {
		request, status, body string
		halfClose             bool
	}{
		"no length and no chunks is no body": {
			set + "Connection: close\r\n\r\n", "204", "", false,
		},
		"chunked and empty": {
			set + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400", `{"message":"invalid JSON: got EOF while reading request body"}`, false,
		},
		"chunked": {
			set + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n", "204", "", false,
		},
		"a chunk of nonsense": {
			set + "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n[]\r\n0\r\n\r\n", "400", `{"message":"invalid JSON: invalid byte in chunk length"}`, false,
		},
		"shorter than told": {
			set + "Connection: close\r\nContent-Length: 10\r\n\r\n[]", "400", `{"message":"invalid JSON: unexpected EOF"}`, true,
		},
		"never comes": {
			set + "Content-Length: 10\r\n\r\n[]", "400", `{"message":"invalid JSON: the request's body did not arrive in time"}`, false,
		},
		"never comes where nobody reads it": {
			"POST /plugins/none/disable HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n", "404", `{"message":"plugin \"none\" not found"}`, false,
		},
		"too large by its length alone": {
			set + "Content-Length: 9223372036854775807\r\n\r\n[]", "400", `{"message":"request body too large"}`, true,
		},
		"negative length": {
			set + "Content-Length: -1\r\n\r\n[]", "400", "400 Bad Request", false,
		},
		"two lengths": {
			set + "Content-Length: 2\r\nContent-Length: 3\r\n\r\n[]", "400", "400 Bad Request", false,
		},
		"an upload that stops": {
			"POST /plugins/create?name=n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nxx\r\n", "400", `{"message":"failed to read from tar: the request's body did not arrive in time"}`, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := patient
			if strings.HasPrefix(name, "never comes") || name == "an upload that stops" {
				g = impatient
			}
			conn := g.dial()
			if _, err := io.WriteString(conn, c.request); err != nil {
				t.Fatal(err)
			}
			if c.halfClose {
				if err := conn.CloseWrite(); err != nil {
					t.Fatal(err)
				}
			}
			b, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			head, body, _ := strings.Cut(string(b), "\r\n\r\n")
			if !strings.HasPrefix(head, "HTTP/1.1 "+c.status+" ") || !strings.HasPrefix(body, c.body) {
				t.Errorf("got %q\n%q", head, body)
			}
		})
	}
	for _, g := range []*rig{patient, impatient} {
		if a := g.do("GET", "/plugins", "", ""); a.status != 200 {
			t.Errorf("afterwards: %v", a)
		}
	}
}

func TestSlowHeadersAreCut(t *testing.T) {
	g := newRig(t)
	s, err := New(g.cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.http.ReadHeaderTimeout = 100 * time.Millisecond
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(g.socket), "slow"))
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) })
	defer serving.Wait()
	defer s.Shutdown(context.Background()) // the test is over
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() // the test is over
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	stop := make(chan struct{})
	var writing sync.WaitGroup
	writing.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for _, b := range []byte("GET /plugins HTTP/1.1\r\nX: " + strings.Repeat("y", 10000)) {
			select {
			case <-stop:
				return
			case <-tick.C:
			}
			if _, err := c.Write([]byte{b}); err != nil {
				return
			}
		}
	})
	_, err = io.ReadAll(c)
	close(stop)
	writing.Wait()
	if ne, ok := err.(net.Error); ok && ne.Timeout() { //nolint:errorlint // as read
		t.Error("the connection was not cut")
	}
	if s.http.ReadHeaderTimeout >= readHeaderTimeout || g.http.ReadHeaderTimeout != 10*time.Second || g.http.IdleTimeout != 2*time.Minute {
		t.Error("the limits of a server are not those promised")
	}
}

func TestHeadersOverOneMiBAreRefused(t *testing.T) {
	g := newRig(t)
	c := g.dial()
	var writing sync.WaitGroup
	writing.Go(func() {
		_, _ = io.WriteString(c, "GET /plugins HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("y", maxHeader+8192)+"\r\n\r\n")
	})
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, " 431 ") {
		t.Errorf("%q, %v", line, err)
	}
	_ = c.Close()
	writing.Wait()
}

func TestAThousandRequestsAtOnce(t *testing.T) {
	g := newRig(t)
	var wg sync.WaitGroup
	errs := make(chan error, 1000)
	for i := range 1000 {
		wg.Go(func() {
			c, err := net.Dial("unix", g.socket)
			if err != nil {
				errs <- err
				return
			}
			defer c.Close() // read to its end
			target := []string{"/plugins", "/plugins/foo/bar/json", "/volumes", "/info"}[i%4]
			_, _ = io.WriteString(c, "GET "+target+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
			b, err := io.ReadAll(c)
			if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
				errs <- fmt.Errorf("%q, %v", b, err) //nolint:errorlint // err may be nil
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

func TestClientsThatHangUpAtEveryByte(t *testing.T) {
	g := newRig(t)
	for _, request := range []string{
		"POST /plugins/create?name=n HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST /plugins/foo/bar/set HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n[\"DEBUG=1\"]  ",
		"GET /events HTTP/1.1\r\nHost: x\r\n\r\n",
		"POST /outlet/v1/plugins/exec?plugin=foo/bar HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: outlet-exec\r\n\r\n\x10\x00\x00\x00\x00\x00\x00\x02{}",
	} {
		for n := range len(request) + 1 {
			c, err := net.Dial("unix", g.socket)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, request[:n])
			_ = c.Close()
		}
	}
	if a := g.do("GET", "/plugins/foo/bar/json", "", ""); a.status != 200 {
		t.Errorf("afterwards: %v", a)
	}
	testutil.Eventually(t, time.Minute, func() error {
		if n := g.events.Subscribers(); n != 0 {
			return fmt.Errorf("%d subscribers are left", n)
		}
		return nil
	})
}

// hangUpDuring starts a request, waits until its method is running, hangs up,
// and returns the context the method was given.
func hangUpDuring(t *testing.T, request, method string) (ctx context.Context, release func()) {
	t.Helper()
	running := make(chan context.Context, 1)
	done := make(chan struct{})
	g := newRig(t)
	g.plugins.hook.set(func(ctx context.Context, m string) error {
		if m == method {
			running <- ctx
			<-done
		}
		return nil
	})
	c := g.dial()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	ctx = <-running
	_ = c.Close()
	return ctx, func() { close(done) }
}

func TestHangingUpEndsACreate(t *testing.T) {
	ctx, release := hangUpDuring(t, "POST /plugins/create?name=n HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "Create")
	defer release()
	select {
	case <-ctx.Done():
	case <-time.After(time.Minute):
		t.Error("the create goes on")
	}
}

func TestHangingUpEndsNoChange(t *testing.T) {
	for method, request := range map[string]string{
		"Enable":  "POST /plugins/foo/bar/enable HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"Disable": "POST /plugins/foo/bar/disable HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"Set":     "POST /plugins/foo/bar/set HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
		"Remove":  "DELETE /plugins/foo/bar HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(method, func(t *testing.T) {
			ctx, release := hangUpDuring(t, request, method)
			defer release()
			if _, ok := ctx.Deadline(); !ok {
				t.Error("nothing bounds it")
			}
			select {
			case <-ctx.Done():
				t.Error("it was cancelled")
			case <-time.After(100 * time.Millisecond):
			}
		})
	}
}

func TestAClientThatHungUpIsLoggedAs499(t *testing.T) {
	g := newRig(t)
	g.plugins.hook.set(func(ctx context.Context, _ string) error {
		<-ctx.Done()
		return fmt.Errorf("list: %w", ctx.Err())
	})
	c := g.dial()
	if _, err := io.WriteString(c, "GET /plugins HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, time.Minute, func() error {
		if g.plugins.lists.Load() == 0 {
			return fmt.Errorf("the request has not come")
		}
		return nil
	})
	_ = c.Close()
	testutil.Eventually(t, time.Minute, func() error {
		if log := g.log.String(); !strings.Contains(log, "status=499") || strings.Contains(log, "level=ERROR") {
			return fmt.Errorf("the log: %s", log)
		}
		return nil
	})
}

func TestAPanicIsA500AndTheConnectionSurvives(t *testing.T) {
	g := newRig(t)
	g.plugins.hook.set(func(context.Context, string) error { panic("boom <&>") })
	c := g.dial()
	r := bufio.NewReader(c)
	for range 2 {
		if _, err := io.WriteString(c, "GET /plugins HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		answer{res.StatusCode, res.Header, string(b)}.checkError(t, 500, "internal error: the request could not be completed")
	}
	if log := g.log.String(); !strings.Contains(log, "boom") || !strings.Contains(log, "stack=") {
		t.Errorf("the log: %s", log)
	}
}

func TestARefusedUploadIsAnsweredWhateverTheClientDoes(t *testing.T) {
	g := newRig(t)
	g.plugins.hook.set(func(context.Context, string) error { return outlet.Errorf(errdefs.ErrConflict, "refused") })
	const head = "POST /plugins/create?name=n HTTP/1.1\r\nHost: x\r\nContent-Length: 33554432\r\n\r\n"
	t.Run("a client that sends everything first", func(t *testing.T) {
		c := g.dial()
		if _, err := io.WriteString(c, head+strings.Repeat("x", 32<<20)); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 409 ") || !strings.Contains(string(b), "refused") {
			t.Errorf("%q, %v", b, err)
		}
	})
	t.Run("a client that waits for the answer", func(t *testing.T) {
		c := g.dial()
		if _, err := io.WriteString(c, head+"x"); err != nil {
			t.Fatal(err)
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != 409 || !res.Close {
			t.Errorf("%d, close %v", res.StatusCode, res.Close)
		}
	})
}

func TestRequestsFromWebPagesAreRefusedOnTCPOnly(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Hosts = []string{"Plugins.Example."} })
	tcp := g.serve("tcp", "127.0.0.1:0").String()
	unix := g.client
	for name, c := range map[string]struct {
		host, origin string
		status       int
	}{
		"address":                  {tcp, "", 200},
		"IPv6":                     {"[::1]:2375", "", 200},
		"IPv6 without a port":      {"[::1]", "", 200},
		"localhost":                {"localhost:2375", "", 200},
		"configured":               {"plugins.example", "", 200},
		"rebound name":             {"evil.example:2375", "", 403},
		"a name of the right end":  {"evil.localhost.example", "", 403},
		"a page of another origin": {tcp, "http://evil.example", 403},
		"a page without an origin": {tcp, "null", 403},
	} {
		t.Run(name, func(t *testing.T) {
			for _, over := range []string{"tcp", "unix"} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+tcp+"/plugins", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = c.host
				if c.origin != "" {
					req.Header.Set("Origin", c.origin)
				}
				want := c.status
				g.client = unix
				if over == "tcp" {
					g.client = http.DefaultClient
					defer http.DefaultClient.CloseIdleConnections()
				} else {
					want = 200
				}
				a := g.send(req)
				g.client = unix
				if a.status != want {
					t.Errorf("over %s: %d %s", over, a.status, a.body)
				}
				a.checkVersionHeaders(t)
			}
		})
	}
}

func TestTooManyConnections(t *testing.T) {
	g := newRig(t, func(c *Config) { c.MaxConnections = 2 })
	get := func(c net.Conn) error {
		if _, err := io.WriteString(c, "GET /_ping HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}
	first, second := g.dial(), g.dial()
	for i, c := range []net.Conn{first, second} {
		if err := get(c); err != nil {
			t.Fatal(err)
		}
		// It becomes idle after it was answered.
		testutil.Eventually(t, time.Minute, func() error {
			g.conns.mu.Lock()
			defer g.conns.mu.Unlock()
			if n := len(g.conns.idle); n != i+1 {
				return fmt.Errorf("%d connections are idle", n)
			}
			return nil
		})
	}
	// Both are idle: the one that has been longest makes room.
	third := g.dial()
	if err := get(third); err != nil {
		t.Fatal(err)
	}
	if err := get(first); err == nil {
		t.Error("the oldest idle connection is still open")
	}
	if err := get(second); err != nil {
		t.Errorf("the other idle connection was closed: %v", err)
	}
}

func TestAServerErrorIsToldInFullToTheDaemonsOwnUser(t *testing.T) {
	g := newRig(t, func(c *Config) { c.StatePaths = []string{"/var/lib/outlet"} })
	g.plugins.hook.set(func(context.Context, string) error { return fmt.Errorf("open /var/lib/outlet/x: i/o error") })
	g.do("GET", "/plugins", "", "").checkError(t, 500, "open /var/lib/outlet/x: i/o error")
	// Over TCP nobody knows who asks.
	tcp := g.serve("tcp", "127.0.0.1:0").String()
	res, err := http.Get("http://" + tcp + "/plugins") // one request of a test
	if err != nil {
		t.Fatal(err)
	}
	defer http.DefaultClient.CloseIdleConnections()
	defer res.Body.Close() // read to its end
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	answer{res.StatusCode, res.Header, string(b)}.checkError(t, 500, "open .../x: i/o error")
	if log := g.log.String(); !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "/var/lib/outlet/x") {
		t.Errorf("the log: %s", log)
	}
}

func TestABusyServerLetsNewConnectionsWait(t *testing.T) {
	g := newRig(t, func(c *Config) { c.MaxConnections = 1 })
	release := make(chan struct{})
	g.plugins.hook.set(func(context.Context, string) error { <-release; return nil })
	busy, waiting := g.dial(), g.dial()
	const request = "GET /plugins HTTP/1.1\r\nHost: x\r\n\r\n"
	if _, err := io.WriteString(busy, request); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, time.Minute, func() error {
		if g.plugins.lists.Load() != 1 {
			return fmt.Errorf("the first request has not come")
		}
		return nil
	})
	if _, err := io.WriteString(waiting, strings.Replace(request, "HTTP/1.1\r\n", "HTTP/1.1\r\nConnection: close\r\n", 1)); err != nil {
		t.Fatal(err)
	}
	_ = waiting.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if n, err := waiting.Read(make([]byte, 1)); n > 0 || err == nil {
		t.Fatal("it was answered")
	}
	close(release)
	// The busy connection is idle now and makes room.
	_ = waiting.SetReadDeadline(time.Now().Add(time.Minute))
	b, err := io.ReadAll(waiting)
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
		t.Errorf("%q, %v", b, err)
	}
}
