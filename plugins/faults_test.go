package plugins_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
)

// script serves a Unix socket with one function for each connection, in order;
// the last one serves all later ones, too.
func script(t testing.TB, each ...func(net.Conn)) (addr string, accepted func() int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	var (
		mu    sync.Mutex
		n     int
		conns []net.Conn
		wg    sync.WaitGroup
	)
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			f := each[min(n, len(each)-1)]
			n++
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				f(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return "unix://" + path, func() int {
		mu.Lock()
		defer mu.Unlock()
		return n
	}
}

// readRequest reads one request with its body.
func readRequest(br *bufio.Reader) (string, string) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return "", ""
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return "", ""
	}
	return req.URL.Path, string(body)
}

// answers serves requests of one connection with the same raw answer.
func answers(raw string) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			if path, _ := readRequest(br); path == "" {
				return
			}
			if _, err := io.WriteString(c, raw); err != nil {
				return
			}
		}
	}
}

func ok(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

func client(t testing.TB, addr string, opts plugins.ClientOptions) *plugins.Client {
	t.Helper()
	c, err := plugins.NewClientWithOptions(addr, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// The plugin reads the request, then its connection breaks. What may be sent
// again is sent again, byte for byte; nothing else is.
func TestD01RetriedCallCarriesItsBody(t *testing.T) {
	got := make(chan string, 4)
	drop := func(c net.Conn) {
		_, body := readRequest(bufio.NewReader(c))
		got <- body
	}
	serve := func(c net.Conn) {
		_, body := readRequest(bufio.NewReader(c))
		got <- body
		io.WriteString(c, ok(`{"Mountpoint":"/x"}`))
	}
	addr, _ := script(t, drop, serve)
	c := client(t, addr, plugins.ClientOptions{})
	var out struct{ Mountpoint string }
	if err := c.CallContext(t.Context(), "VolumeDriver.Path", map[string]string{"Name": "a"}, &out); err != nil {
		t.Fatal(err)
	}
	first, second := <-got, <-got
	if want := "{\"Name\":\"a\"}\n"; first != want || second != want {
		t.Errorf("the plugin got %q and then %q, want %q twice", first, second, want)
	}
	if out.Mountpoint != "/x" {
		t.Errorf("answer %+v", out)
	}
}

func TestD02CallThatChangesThingsIsSentOnce(t *testing.T) {
	addr, accepted := script(t, func(c net.Conn) { readRequest(bufio.NewReader(c)) })
	c := client(t, addr, plugins.ClientOptions{})
	err := c.CallContext(t.Context(), "VolumeDriver.Mount", map[string]string{"Name": "a"}, nil)
	var te *plugins.TransportError
	if !errors.As(err, &te) || !te.Sent || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want a transport error after the request was sent", err)
	}
	if n := accepted(); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

func TestD02TimedOutCallIsNotRepeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var delivered atomic.Int32
		c := piped(t, plugins.ClientOptions{}, func(c net.Conn) {
			readRequest(bufio.NewReader(c))
			delivered.Add(1)
			io.Copy(io.Discard, c)
		})
		err := c.CallContext(t.Context(), "VolumeDriver.Get", nil, nil, plugins.WithRequestTimeout(30*time.Millisecond))
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("error %v, want a timeout", err)
		}
		if n := delivered.Load(); n != 1 {
			t.Errorf("delivered %d times", n)
		}
	})
}

func TestD02BrokenAnswerIsNotRepeated(t *testing.T) {
	addr, accepted := script(t, func(c net.Conn) {
		readRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
	})
	c := client(t, addr, plugins.ClientOptions{})
	err := c.CallContext(t.Context(), "VolumeDriver.Get", nil, new(struct{}))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error %v, want an unexpected end", err)
	}
	if n := accepted(); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

// An idle connection that died is replaced at once, for every method: nothing of
// the request was sent on it.
func TestDeadIdleConnectionIsReplaced(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	p.Reply("VolumeDriver.Mount", struct{}{})
	c := client(t, p.Addr, plugins.ClientOptions{RetryBudget: -1})
	for range 5 {
		if err := c.CallContext(t.Context(), "VolumeDriver.Mount", nil, nil); err != nil {
			t.Fatal(err)
		}
		p.Sever()
	}
	if n := len(p.Requests("VolumeDriver.Mount")); n != 5 {
		t.Errorf("%d deliveries of 5 calls", n)
	}
}

// A plugin that closes a connection for being idle may do so just when the next
// request comes. What can be repeated goes on a new connection at once, whatever
// the budget for retries; the rest is not sent twice.
func TestIdleConnectionClosedAsTheRequestCame(t *testing.T) {
	for _, tt := range []struct {
		name, method string
		drops        int // connections that take a request and close, after the first
		deliveries   int
		ok           bool
	}{
		{"a query", "VolumeDriver.List", 0, 3, true},
		{"a change", "VolumeDriver.Mount", 0, 2, false},
		{"a query that is dropped again", "VolumeDriver.List", 1, 3, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var deliveries atomic.Int32
			answer := func(c net.Conn, r *bufio.Reader) {
				readRequest(r)
				deliveries.Add(1)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
			}
			drop := func(r *bufio.Reader) {
				readRequest(r)
				deliveries.Add(1)
			}
			each := []func(net.Conn){func(c net.Conn) {
				r := bufio.NewReader(c)
				answer(c, r)
				drop(r)
			}}
			for range tt.drops {
				each = append(each, func(c net.Conn) { drop(bufio.NewReader(c)) })
			}
			each = append(each, func(c net.Conn) { answer(c, bufio.NewReader(c)) })
			addr, _ := script(t, each...)
			c := client(t, addr, plugins.ClientOptions{RetryBudget: -1})
			if err := c.CallContext(t.Context(), tt.method, nil, nil); err != nil {
				t.Fatal(err)
			}
			err := c.CallContext(t.Context(), tt.method, nil, nil)
			if te := new(plugins.TransportError); (err == nil) != tt.ok || err != nil && (!errors.As(err, &te) || !te.Sent) {
				t.Errorf("error %v", err)
			}
			if n := int(deliveries.Load()); n != tt.deliveries {
				t.Errorf("%d deliveries, want %d", n, tt.deliveries)
			}
		})
	}
}

func TestSendFileIsNotRestartedOnceRead(t *testing.T) {
	addr, accepted := script(t, func(c net.Conn) {
		b := make([]byte, 64)
		c.Read(b)
	})
	c := client(t, addr, plugins.ClientOptions{})
	err := c.SendFileContext(t.Context(), "GraphDriver.ApplyDiff", strings.NewReader(strings.Repeat("x", 1<<20)), nil, plugins.WithReplay(true))
	if err == nil {
		t.Fatal("no error although the plugin read nothing")
	}
	if n := accepted(); n != 1 {
		t.Errorf("delivered %d times", n)
	}
}

func TestSendFileIsRepeatedWhileNothingWasRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "p.sock")
	tries := 0
	c := client(t, "unix://"+path, plugins.ClientOptions{
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if tries++; tries == 2 {
				p := pluginstest.Start(t, path)
				p.Reply("GraphDriver.ApplyDiff", map[string]int{"Size": 7})
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	})
	var out struct{ Size int }
	err := c.SendFileContext(t.Context(), "GraphDriver.ApplyDiff?id=1", strings.NewReader("tar"), &out)
	if err != nil || out.Size != 7 || tries != 2 {
		t.Errorf("size %d after %d tries: %v", out.Size, tries, err)
	}
}

// The schedule of docs/spec/v1-plugins.md §4.2.
func TestConnectIsRetriedAfter0_1_3_7_15Seconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var at []time.Duration
		c := client(t, "unix:///nowhere.sock", plugins.ClientOptions{
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				at = append(at, time.Since(start))
				return nil, errors.New("refused")
			},
		})
		err := c.CallContext(t.Context(), "VolumeDriver.Mount", nil, nil)
		if err == nil || time.Since(start) != 15*time.Second {
			t.Errorf("error %v after %v, want one after 15s", err, time.Since(start))
		}
		want := []time.Duration{0, time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}
		if fmt.Sprint(at) != fmt.Sprint(want) {
			t.Errorf("tried at %v, want %v", at, want)
		}
	})
}

func TestSlowAttemptsUseTheBudgetUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		c := client(t, "unix:///nowhere.sock", plugins.ClientOptions{
			ConnectTimeout: -1,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				tries++
				time.Sleep(29 * time.Second)
				return nil, errors.New("no")
			},
		})
		if err := c.CallContext(t.Context(), "X.Y", nil, nil); err == nil || tries != 1 {
			t.Errorf("%d tries: %v", tries, err)
		}
	})
}

func TestWaitBetweenAttemptsEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := client(t, "unix:///nowhere/at/all.sock", plugins.ClientOptions{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("refused") },
		})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(20*time.Millisecond, cancel)
		start := time.Now()
		err := c.CallContext(ctx, "X.Y", nil, nil)
		if !errors.Is(err, context.Canceled) || time.Since(start) != 20*time.Millisecond {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

func TestD03CallerIsNotBlockedByASilentPlugin(t *testing.T) {
	hang := func(c net.Conn) { io.Copy(io.Discard, c) }
	t.Run("context", func(t *testing.T) {
		addr, _ := script(t, hang)
		c := client(t, addr, plugins.ClientOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := c.CallContext(ctx, "VolumeDriver.List", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("response header timeout", func(t *testing.T) {
		addr, _ := script(t, hang)
		c := client(t, addr, plugins.ClientOptions{ResponseHeaderTimeout: 20 * time.Millisecond})
		err := c.CallContext(t.Context(), "VolumeDriver.List", nil, nil)
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() || !strings.Contains(err.Error(), "no answer within 20ms") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("of Moby's kind", func(t *testing.T) {
		addr, _ := script(t, hang)
		c, err := plugins.NewClientWithTimeout(addr, nil, 20*time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		start := time.Now()
		if err := c.Call("VolumeDriver.List", nil, nil); err == nil || time.Since(start) > 5*time.Second {
			t.Errorf("error %v after %v", err, time.Since(start))
		}
	})
}

func TestD04StreamOutlivesTheTimeout(t *testing.T) {
	addr, _ := script(t, func(c net.Conn) {
		readRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for range 10 {
			time.Sleep(20 * time.Millisecond)
			if _, err := io.WriteString(c, "1\r\nx\r\n"); err != nil {
				return
			}
		}
		io.WriteString(c, "0\r\n\r\n")
	})
	c := client(t, addr, plugins.ClientOptions{Timeout: 50 * time.Millisecond, StreamIdleTimeout: 10 * time.Second})
	s, err := c.StreamContext(t.Context(), "LogDriver.ReadLogs", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	all, err := io.ReadAll(s)
	if string(all) != "xxxxxxxxxx" || err != nil {
		t.Errorf("read %q, %v", all, err)
	}
}

// Nobody logs a line for longer than calls may take, and a server of Go's kind
// sends not even the head until there is one.
func TestD04SilentStreamIsNoFailure(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	p.Handle("LogDriver.ReadLogs", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(100 * time.Millisecond)
		io.WriteString(w, "line")
	})
	c := client(t, p.Addr, plugins.ClientOptions{Timeout: 20 * time.Millisecond})
	s, err := c.StreamContext(t.Context(), "LogDriver.ReadLogs", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if b, err := io.ReadAll(s); string(b) != "line" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	p.Handle("LogDriver.ReadLogs", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := c.StreamContext(t.Context(), "LogDriver.ReadLogs", nil, plugins.WithRequestTimeout(20*time.Millisecond)); err == nil {
		t.Error("a limit that was asked for is not kept")
	}
}

func TestStreamEndsWithItsContextAndWithClose(t *testing.T) {
	silent := func(c net.Conn) {
		readRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		io.Copy(io.Discard, c)
	}
	for name, end := range map[string]func(cancel func(), s io.Closer){
		"context": func(cancel func(), _ io.Closer) { cancel() },
		"close":   func(_ func(), s io.Closer) { s.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			addr, _ := script(t, silent)
			c := client(t, addr, plugins.ClientOptions{})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s, err := c.StreamContext(ctx, "LogDriver.ReadLogs", nil)
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			ended := make(chan error, 1)
			go func() {
				_, err := s.Read(make([]byte, 1))
				ended <- err
			}()
			time.AfterFunc(10*time.Millisecond, func() { end(cancel, s) })
			select {
			case err := <-ended:
				if err == nil {
					t.Error("read ended well")
				}
			case <-time.After(20 * time.Second):
				t.Error("read does not end")
			}
		})
	}
	t.Run("idle timeout", func(t *testing.T) {
		addr, _ := script(t, silent)
		c := client(t, addr, plugins.ClientOptions{StreamIdleTimeout: 20 * time.Millisecond})
		s, err := c.StreamContext(t.Context(), "LogDriver.ReadLogs", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_, err = s.Read(make([]byte, 1))
		var ne net.Error
		if !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("error %v, want a timeout", err)
		}
	})
}

// endless is an answer whose body never ends.
func endless(head string) func(net.Conn) {
	return func(c net.Conn) {
		readRequest(bufio.NewReader(c))
		io.WriteString(c, head)
		chunk := strings.Repeat("x", 1<<16)
		for {
			if _, err := io.WriteString(c, chunk); err != nil {
				return
			}
		}
	}
}

func TestD05WhatIsReadIsBounded(t *testing.T) {
	t.Run("error body", func(t *testing.T) {
		addr, _ := script(t, endless("HTTP/1.1 500 No\r\n\r\n"))
		err := client(t, addr, plugins.ClientOptions{}).CallContext(t.Context(), "VolumeDriver.List", nil, nil)
		var se *plugins.StatusError
		if !errors.As(err, &se) || len(se.Message) != 64<<10 {
			t.Errorf("%T, want a status error with 64 KiB", err)
		}
	})
	t.Run("answer without a length", func(t *testing.T) {
		addr, _ := script(t, endless("HTTP/1.1 200 OK\r\n\r\n\""))
		err := client(t, addr, plugins.ClientOptions{}).CallContext(t.Context(), "VolumeDriver.List", nil, new(string))
		if !errors.Is(err, plugins.ErrAnswerTooLarge) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("answer that announces its length", func(t *testing.T) {
		addr, _ := script(t, answers("HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"))
		err := client(t, addr, plugins.ClientOptions{}).CallContext(t.Context(), "VolumeDriver.List", nil, new(string))
		if !errors.Is(err, plugins.ErrAnswerTooLarge) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("limit of the call", func(t *testing.T) {
		addr, _ := script(t, answers(ok(`"0123456789"`)))
		c := client(t, addr, plugins.ClientOptions{})
		var s string
		if err := c.CallContext(t.Context(), "X.Y", nil, &s, plugins.WithMaxAnswer(11)); !errors.Is(err, plugins.ErrAnswerTooLarge) {
			t.Errorf("11 bytes: %v", err)
		}
		if err := c.CallContext(t.Context(), "X.Y", nil, &s, plugins.WithMaxAnswer(12)); err != nil || s != "0123456789" {
			t.Errorf("12 bytes: %q, %v", s, err)
		}
	})
	t.Run("headers", func(t *testing.T) {
		addr, _ := script(t, endless("HTTP/1.1 200 OK\r\nX: "))
		if err := client(t, addr, plugins.ClientOptions{}).CallContext(t.Context(), "X.Y", nil, nil); err == nil {
			t.Error("no error")
		}
	})
	t.Run("compression is not asked for", func(t *testing.T) {
		p := pluginstest.StartTCP(t, nil)
		p.Reply("X.Y", struct{}{})
		if err := client(t, p.Addr, plugins.ClientOptions{}).CallContext(t.Context(), "X.Y", nil, nil); err != nil {
			t.Fatal(err)
		}
		if e := p.Requests("X.Y")[0].Header.Get("Accept-Encoding"); e != "" {
			t.Errorf("Accept-Encoding: %s", e)
		}
	})
}

func TestD06ConnectionsAreKept(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	const callers = 32
	var barrier sync.WaitGroup
	barrier.Add(callers)
	p.Handle("AuthZPlugin.AuthZReq", func(w http.ResponseWriter, _ *http.Request) {
		barrier.Done()
		barrier.Wait() // all at once, so each needs its own connection
		// Bytes behind the first JSON value must not cost the connection.
		io.WriteString(w, "{} "+strings.Repeat(" ", 3000)+"{}")
	})
	c := client(t, p.Addr, plugins.ClientOptions{})
	for range 3 {
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				if err := c.CallContext(context.Background(), "AuthZPlugin.AuthZReq", struct{}{}, new(struct{})); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		barrier.Add(callers)
	}
	if n := p.Connections(); n != callers {
		t.Errorf("%d connections for %d callers in three rounds", n, callers)
	}
}

func TestD08NoRedirectsAndNoProxies(t *testing.T) {
	other := pluginstest.StartTCP(t, nil)
	p := pluginstest.StartTCP(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		p.Handle("X.Y", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, strings.Replace(other.Addr, "tcp", "http", 1)+"/X.Y", status)
		})
		t.Setenv("HTTP_PROXY", strings.Replace(other.Addr, "tcp", "http", 1))
		t.Setenv("http_proxy", strings.Replace(other.Addr, "tcp", "http", 1))
		err := client(t, p.Addr, plugins.ClientOptions{}).CallContext(t.Context(), "X.Y", nil, nil)
		var se *plugins.StatusError
		if !errors.As(err, &se) || se.Status != status {
			t.Errorf("error %v, want status %d", err, status)
		}
	}
	if n := len(other.Requests("")); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

func TestErrorsOfThePlugin(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		status       int
		text         string
	}{
		{"Err field", "HTTP/1.1 500 X\r\nContent-Length: 14\r\n\r\n{\"Err\":\"exit\"}", 500, "V.M: exit"},
		{"other case", "HTTP/1.1 500 X\r\nContent-Length: 14\r\n\r\n{\"err\":\"exit\"}", 500, "V.M: exit"},
		{"object without Err", "HTTP/1.1 500 X\r\nContent-Length: 2\r\n\r\n{}", 500, "V.M: {}"},
		{"text", "HTTP/1.1 400 X\r\nContent-Length: 3\r\n\r\nno\n", 400, "V.M: no"},
		{"nothing", "HTTP/1.1 502 X\r\nContent-Length: 0\r\n\r\n", 502, "V.M: status 502 Bad Gateway"},
		{"created is an error", "HTTP/1.1 201 X\r\nContent-Length: 2\r\n\r\n{}", 201, "V.M: {}"},
		{"no content is an error", "HTTP/1.1 204 X\r\n\r\n", 204, "V.M: status 204 No Content"},
		{"not found", "HTTP/1.1 404 X\r\nContent-Length: 2\r\n\r\nno", 404, "V.M: no"},
		{"control characters", "HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\na\x1b[31m\x00\nb", 500, "V.M: a [31m b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, _ := script(t, answers(tt.answer))
			err := client(t, addr, plugins.ClientOptions{}).CallContext(t.Context(), "V.M", nil, nil)
			var se *plugins.StatusError
			if !errors.As(err, &se) || se.Status != tt.status || se.Method != "V.M" || err.Error() != tt.text {
				t.Errorf("error %#v %v, want %s", err, err, tt.text)
			}
			if got := plugins.IsNotFound(fmt.Errorf("wrapped: %w", err)); got != (tt.status == 404) {
				t.Errorf("IsNotFound of the wrapped error is %v", got)
			}
		})
	}
}

func TestD31IsNotFoundUnwraps(t *testing.T) {
	err := fmt.Errorf("a: %w", errors.Join(errors.New("b"), &plugins.StatusError{Status: 404}))
	if !plugins.IsNotFound(err) {
		t.Error("not found in a wrapped error is not recognised")
	}
	if plugins.IsNotFound(nil) || plugins.IsNotFound(errors.New("x")) || plugins.IsNotFound(&plugins.StatusError{Status: 500}) {
		t.Error("something else is taken for not found")
	}
}

// Answers as servers of all kinds send them.
func TestAnswersOnTheWire(t *testing.T) {
	for _, tt := range []struct{ name, answer, want string }{
		{"length", ok(`"a"`), "a"},
		{"only the first value counts", ok(`"a" "b"`), "a"},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\"a\r\n1\r\n\"\r\n0\r\n\r\n", "a"},
		{"chunked with trailer", "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x=y\r\n\"a\"\r\n0\r\nX: y\r\n\r\n", "a"},
		{"until close", "HTTP/1.0 200 OK\r\n\r\n\"a\"", "a"},
		{"interim answers", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok(`"a"`), "a"},
		{"line feeds alone", "HTTP/1.1 200 OK\nContent-Length: 3\n\n\"a\"", "a"},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\n\"a\"", "a"},
		{"same length twice", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n\"a\"", "a"},
		{"folded header", "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 3\r\n\r\n\"a\"", "a"},
		{"long header", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", 10000) + "\r\nContent-Length: 3\r\n\r\n\"a\"", "a"},
		{"different lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n\"a\"", ""},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n\"a\"", ""},
		{"length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n\"a\"", ""},
		{"unknown encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n\"a\"", ""},
		{"another protocol", "SSH-2.0-OpenSSH\r\n", ""},
		{"HTTP/2", "HTTP/2 200 OK\r\n\r\n", ""},
		{"switching protocols", "HTTP/1.1 101 X\r\n\r\n", ""},
		{"nothing but interim answers", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50), ""},
		{"no colon", "HTTP/1.1 200 OK\r\nNonsense\r\n\r\n", ""},
		{"space before the colon", "HTTP/1.1 200 OK\r\nContent-Length : 3\r\n\r\n\"a\"", ""},
		{"no JSON", ok("hello"), ""},
		{"nothing at all", ok(""), ""},
		{"broken chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr, _ := script(t, func(c net.Conn) {
				readRequest(bufio.NewReader(c))
				io.WriteString(c, tt.answer)
			})
			var got string
			err := client(t, addr, plugins.ClientOptions{RetryBudget: -1}).CallContext(t.Context(), "X.Y", nil, &got)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// A plugin that answers once and then goes on talking costs its connection, and
// the next call does not read what it said.
func TestUnaskedBytesDoNotReachTheNextCall(t *testing.T) {
	evil := ok(`"mine"`) + ok(`"not yours"`)
	addr, accepted := script(t, answers(evil))
	c := client(t, addr, plugins.ClientOptions{})
	for range 3 {
		var got string
		if err := c.CallContext(t.Context(), "X.Y", nil, &got); err != nil || got != "mine" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if accepted() != 3 {
		t.Errorf("%d connections for 3 calls", accepted())
	}
}

// A plugin may answer before it has read a long request.
func TestEarlyAnswerToALongRequest(t *testing.T) {
	addr, _ := script(t, func(c net.Conn) {
		br := bufio.NewReader(c)
		if _, err := http.ReadRequest(br); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 14\r\nConnection: close\r\n\r\n{\"Err\":\"long\"}")
		time.Sleep(50 * time.Millisecond)
	})
	c := client(t, addr, plugins.ClientOptions{RetryBudget: -1})
	long := strings.Repeat("x", 8<<20)
	for name, call := range map[string]func() error{
		"call": func() error { return c.CallContext(t.Context(), "AuthZPlugin.AuthZReq", long, nil) },
		"file": func() error { return c.SendFileContext(t.Context(), "G.A", strings.NewReader(long), nil) },
	} {
		var se *plugins.StatusError
		if err := call(); !errors.As(err, &se) || se.Message != "long" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSendFileReportsItsReadersError(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	c := client(t, p.Addr, plugins.ClientOptions{})
	broken := errors.New("disk on fire")
	err := c.SendFileContext(t.Context(), "G.A", io.MultiReader(strings.NewReader("x"), errReader{broken}), nil)
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func TestRequestsOnTheWire(t *testing.T) {
	p := pluginstest.StartTCP(t, nil)
	local := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	for _, p := range []*pluginstest.Plugin{p, local} {
		p.Handle("/base/X.Y", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "{}") })
		p.Reply("X.Y", struct{}{})
	}
	call := func(addr, method string, args any) pluginstest.Request {
		t.Helper()
		from := p
		if strings.HasPrefix(addr, "unix") {
			from = local
		}
		if err := client(t, addr, plugins.ClientOptions{}).CallContext(t.Context(), method, args, new(struct{})); err != nil {
			t.Fatal(err)
		}
		all := from.Requests("")
		return all[len(all)-1]
	}
	r := call(local.Addr, "/X.Y", map[string]any{"A": nil})
	if string(r.Body) != "{\"A\":null}\n" || r.Host != "plugin.moby.localhost" || r.Path != "/X.Y" ||
		r.Header.Get("Accept") != plugins.VersionMimetype || r.Header.Get("Content-Type") != plugins.VersionMimetype {
		t.Errorf("request %+v", r)
	}
	r = call(p.Addr, "X.Y?id=a%20b&parent=c", nil)
	if len(r.Body) != 0 || r.Header.Get("Content-Length") != "0" || r.Header.Get("Content-Type") != "" ||
		r.Host != strings.TrimPrefix(p.Addr, "tcp://") {
		t.Errorf("request %+v", r)
	}
	if r = call(strings.Replace(p.Addr, "tcp", "http", 1)+"/base/", "X.Y", nil); r.Path != "/base/X.Y" {
		t.Errorf("path %s, want the base in front", r.Path)
	}
	for _, method := range []string{"", "/", "X Y\r\nEvil: 1"} {
		err := client(t, p.Addr, plugins.ClientOptions{RetryBudget: -1}).CallContext(t.Context(), method, nil, nil)
		if err == nil {
			t.Errorf("method %q was called", method)
		}
		for _, r := range p.Requests("") {
			if r.Header.Get("Evil") != "" {
				t.Fatalf("method %q put a header into the request", method)
			}
		}
	}
}

func TestCallRawPassesEverythingOn(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	p.Fail("X.Y", 418, "short")
	status, body, err := client(t, p.Addr, plugins.ClientOptions{}).CallRaw(t.Context(), "X.Y", []byte(`{"a":1}`))
	if status != 418 || string(body) != "{\"Err\":\"short\"}\n" || err != nil {
		t.Errorf("%d %q %v", status, body, err)
	}
	if got := p.Requests("X.Y")[0].Body; string(got) != `{"a":1}` {
		t.Errorf("sent %q", got)
	}
}

func TestClosedClientRefuses(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	p.Reply("X.Y", struct{}{})
	c := client(t, p.Addr, plugins.ClientOptions{})
	if err := c.CallContext(t.Context(), "X.Y", nil, nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := c.CallContext(t.Context(), "X.Y", nil, nil); !errors.Is(err, plugins.ErrClosed) {
		t.Errorf("error %v", err)
	}
}

// Connections without a descriptor to ask are watched by a goroutine instead.
func TestConnectionsWithoutADescriptor(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	p.Reply("X.Y", struct{}{})
	dials := 0
	c := client(t, p.Addr, plugins.ClientOptions{
		RetryBudget: -1,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			nc, err := new(net.Dialer).DialContext(ctx, network, addr)
			return struct{ net.Conn }{nc}, err
		},
	})
	for i := range 4 {
		if err := c.CallContext(t.Context(), "X.Y", nil, nil); err != nil {
			t.Fatal(err)
		}
		if i == 1 {
			p.Sever()
		}
	}
	if dials != 2 {
		t.Errorf("%d connections, want one, and another after the first was cut", dials)
	}
}

func TestIdleConnectionsTimeOut(t *testing.T) {
	p := pluginstest.Start(t, filepath.Join(t.TempDir(), "p.sock"))
	p.Reply("X.Y", struct{}{})
	c := client(t, p.Addr, plugins.ClientOptions{IdleConnTimeout: 30 * time.Millisecond})
	if err := c.CallContext(t.Context(), "X.Y", nil, nil); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); p.Connections() > 0; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the connection is still open")
		}
	}
}
