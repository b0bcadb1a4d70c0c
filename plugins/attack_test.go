package plugins_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
)

// A call with a short deadline leaves its connection as good as it was.
func TestConnectionOutlivesTheDeadlineOfItsCall(t *testing.T) {
	addr, accepted := script(t, answers(ok("{}")))
	c := client(t, addr, plugins.ClientOptions{Timeout: -1}) // the second call has no limit at all
	const limit = 2 * time.Second                            // long enough for the call, on any machine
	must(t, c.CallContext(t.Context(), "X.Y", nil, nil, plugins.WithRequestTimeout(limit)))
	time.Sleep(limit + 20*time.Millisecond) // the deadline has to pass
	must(t, c.CallContext(t.Context(), "X.Y", nil, nil))
	if n := accepted(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}

// piped returns a client whose connections are served by serve, all in memory
// and on the clock of synctest.
func piped(t *testing.T, opts plugins.ClientOptions, serve func(net.Conn)) *plugins.Client {
	var wg sync.WaitGroup
	opts.DialContext = func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		wg.Go(func() {
			defer theirs.Close()
			serve(theirs)
		})
		return ours, nil
	}
	c := client(t, "unix:///x.sock", opts)
	t.Cleanup(func() {
		c.Close()
		wg.Wait()
	})
	return c
}

// A plugin that begins an error and never ends it holds nobody up.
func TestErrorInsteadOfAStreamIsNotWaitedForWithoutEnd(t *testing.T) {
	for name, call := range map[string]func(context.Context, *plugins.Client) error{
		"stream": func(ctx context.Context, c *plugins.Client) error {
			_, err := c.StreamContext(ctx, "LogDriver.ReadLogs", nil)
			return err
		},
		"upload": func(ctx context.Context, c *plugins.Client) error {
			return c.SendFileContext(ctx, "GraphDriver.ApplyDiff", strings.NewReader("tar"), nil)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := piped(t, plugins.ClientOptions{}, func(nc net.Conn) {
				readRequest(bufio.NewReader(nc))
				io.WriteString(nc, "HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n")
				io.Copy(io.Discard, nc)
			})
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			err := call(ctx, c)
			var se *plugins.StatusError
			if !errors.As(err, &se) || se.Message != "no" || time.Since(start) > time.Minute {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
		})
	}
}

// A plugin refuses an upload while its source is slow: the next chunk is not
// waited for to be taken.
func TestRefusalDuringASlowUploadIsSeenAtTheNextChunk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := piped(t, plugins.ClientOptions{StreamIdleTimeout: time.Hour}, func(nc net.Conn) {
			br := bufio.NewReader(nc)
			for {
				if line, err := br.ReadString('\n'); err != nil || line == "\r\n" {
					break
				}
			}
			io.WriteString(nc, "HTTP/1.1 413 Large\r\nContent-Length: 3\r\n\r\nbig")
			time.Sleep(2 * time.Hour) // neither reads nor closes
		})
		start := time.Now()
		slow := io.MultiReader(readerFunc(func([]byte) (int, error) {
			time.Sleep(time.Second)
			return 0, io.EOF
		}), strings.NewReader("tar"))
		err := c.SendFileContext(t.Context(), "GraphDriver.ApplyDiff", slow, nil)
		var se *plugins.StatusError
		if !errors.As(err, &se) || se.Status != 413 || time.Since(start) > time.Minute {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What callers put behind a method stays in the request line, in one piece.
func TestQueryCannotLeaveTheRequestLine(t *testing.T) {
	got := make(chan string, 1)
	addr, _ := script(t, func(nc net.Conn) {
		line, _ := bufio.NewReader(nc).ReadString('\n')
		got <- line
		io.WriteString(nc, ok("{}"))
	})
	c := client(t, addr, plugins.ClientOptions{RetryBudget: -1})
	must(t, c.CallContext(t.Context(), "G.Diff?id=a b HTTP/1.1", nil, nil))
	if line := <-got; line != "POST /G.Diff?id=a%20b%20HTTP/1.1 HTTP/1.1\r\n" {
		t.Errorf("%q", line)
	}
	for _, method := range []string{"G.Diff?id=a\r\nX: y", "G.Diff\n", "G.Diff?\x00", ""} {
		if err := c.CallContext(t.Context(), method, nil, nil); err == nil {
			t.Errorf("%q was sent", method)
		}
	}
}

// Passing a stream on, and closing it while the receiver is stuck.
func TestStreamIsPassedOn(t *testing.T) {
	want := strings.Repeat("0123456789abcdef", 10<<10)
	addr, accepted := script(t, answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n28000\r\n"+want+"\r\n0\r\n\r\n"))
	c := client(t, addr, plugins.ClientOptions{})
	for range 2 {
		s, err := c.StreamContext(t.Context(), "L.R", nil)
		must(t, err)
		var got strings.Builder
		n, err := io.Copy(&got, s)
		if err != nil || n != int64(len(want)) || got.String() != want {
			t.Errorf("%d bytes, equal %v: %v", n, got.String() == want, err)
		}
		must(t, s.Close())
	}
	if n := accepted(); n != 1 {
		t.Errorf("%d connections, want 1: it was read to its end", n)
	}

	s, err := c.StreamContext(t.Context(), "L.R", nil)
	must(t, err)
	r, w := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(w, s) }) // ends with w's error
	_, err = r.Read(make([]byte, 1))
	must(t, err)
	must(t, s.Close()) // does not wait for the one who is stuck in w
	r.Close()
	wg.Wait()

	s, err = c.StreamContext(t.Context(), "L.R", nil)
	must(t, err)
	defer s.Close()
	if err := iotest.TestReader(s, []byte(want)); err != nil {
		t.Error(err)
	}
}

// bundled sends what was written to it only when it is told to, at once.
type bundled struct {
	net.Conn
	hold bool
	kept []byte
}

func (b *bundled) Write(p []byte) (int, error) {
	if b.hold {
		b.kept = append(b.kept, p...)
		return len(p), nil
	}
	return b.Conn.Write(p)
}

// A second answer that nobody asked for is not taken for the next call's, where
// it hides in the buffer of the TLS layer, either.
func TestUnaskedAnswerBehindTLSIsNotTheNextCalls(t *testing.T) {
	dir := authority(t, "server")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var wg sync.WaitGroup
	serve := func(raw *bundled) {
		defer raw.Close()
		nc := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{cert}})
		br := bufio.NewReader(nc)
		for {
			path, _ := readRequest(br)
			if path == "" {
				return
			}
			raw.hold = true
			io.WriteString(nc, ok(`{"For":"`+path+`"}`))
			io.WriteString(nc, ok(`{"For":"nobody"}`))
			raw.hold = false
			if _, err := raw.Write(raw.kept); err != nil {
				return
			}
			raw.kept = nil
		}
	}
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(&bundled{Conn: nc}) })
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(func() { l.Close() })
	c := client(t, "https://"+l.Addr().String(), plugins.ClientOptions{TLS: &tls.Config{InsecureSkipVerify: true}})
	for _, method := range []string{"A.A", "B.B", "C.C"} {
		var got struct{ For string }
		must(t, c.CallContext(t.Context(), method, nil, &got))
		if got.For != "/"+method {
			t.Errorf("%s got the answer for %s", method, got.For)
		}
	}
}

// A configuration that is shared with an HTTP/2 client has its protocols; this
// client speaks none of them.
func TestHTTP2IsNotOffered(t *testing.T) {
	dir := authority(t, "server")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	must(t, err)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"Major":%d}`, r.ProtoMajor)
	}))
	srv.EnableHTTP2 = true
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{cert}}
	srv.StartTLS()
	defer srv.Close()
	config := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}
	c := client(t, srv.URL, plugins.ClientOptions{TLS: config, RetryBudget: -1})
	var got struct{ Major int }
	if err := c.CallContext(t.Context(), "A.B", nil, &got); err != nil || got.Major != 1 {
		t.Errorf("HTTP/%d: %v", got.Major, err)
	}
	if len(config.NextProtos) != 2 {
		t.Error("the caller's configuration was changed")
	}
}

func TestTLSConnectionIsUsedAgain(t *testing.T) {
	dir := authority(t, "server")
	cert, err := tls.LoadX509KeyPair(filepath.Join(dir, "server.pem"), filepath.Join(dir, "server.key"))
	must(t, err)
	var handshakes atomic.Int32
	p := pluginstest.StartTCP(t, &tls.Config{Certificates: []tls.Certificate{cert}, VerifyConnection: func(tls.ConnectionState) error {
		handshakes.Add(1)
		return nil
	}}, volumeDriver)
	p.Reply("A.B", struct{}{})
	c := client(t, "https://"+strings.SplitN(p.Addr, "://", 2)[1], plugins.ClientOptions{TLS: &tls.Config{InsecureSkipVerify: true}})
	for range 5 {
		must(t, c.CallContext(t.Context(), "A.B", nil, nil))
	}
	if n := handshakes.Load(); n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
}
