package plugins

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a system with named pipes, each answer once and the last for ever.
type pipes struct {
	answers []error // nil opens
	serve   func(net.Conn)
	asked   []string
	work    sync.WaitGroup
}

func (p *pipes) open(path string) (net.Conn, error) {
	err := p.answers[min(len(p.asked), len(p.answers)-1)]
	p.asked = append(p.asked, path)
	if err != nil {
		return nil, err
	}
	ours, theirs := net.Pipe()
	p.work.Go(func() {
		defer theirs.Close()
		if p.serve != nil {
			p.serve(theirs)
		}
	})
	return ours, nil
}

const pipeAddress = "npipe:////./pipe/sample"

// D-19, as far as it shows without Windows.
func TestD19CallOverANamedPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := fmt.Errorf("%w: 231", errPipeBusy)
		sys := &pipes{answers: []error{busy, busy, nil}, serve: func(nc net.Conn) {
			br := bufio.NewReader(nc)
			for {
				req, err := http.ReadRequest(br)
				if err != nil {
					return
				}
				answer := fmt.Sprintf(`{"Path":%q,"Host":%q}`, req.URL.Path, req.Host)
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(answer), answer)
			}
		}}
		c, err := NewClientWithOptions(pipeAddress, ClientOptions{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				if network != "npipe" {
					t.Errorf("network %s", network)
				}
				return dialPipe(ctx, sys, address)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		for range 2 {
			var got struct{ Path, Host string }
			if err := c.CallContext(t.Context(), "VolumeDriver.List", nil, &got); err != nil {
				t.Fatal(err)
			}
			if got.Path != "/VolumeDriver.List" || got.Host != "plugin.moby.localhost" {
				t.Errorf("%+v", got)
			}
		}
		if took := time.Since(start); took != 2*pipePause {
			t.Errorf("took %v, want two pauses", took)
		}
		if got, want := strings.Join(sys.asked, " "), strings.TrimSpace(strings.Repeat(`\\.\pipe\sample `, 3)); got != want {
			t.Errorf("opened %s, want %s", got, want)
		}
		c.Close()
		sys.work.Wait()
	})
}

func TestD19PipeThatCannotBeOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := dialPipe(ctx, &pipes{answers: []error{errPipeBusy}}, "//./pipe/x")
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("always busy: %v", err)
		}
		missing := &pipes{answers: []error{fs.ErrNotExist}}
		_, err = dialPipe(ctx, missing, "//./pipe/x")
		var op *net.OpError
		if !errors.As(err, &op) || op.Addr.String() != `\\.\pipe\x` || !errors.Is(err, fs.ErrNotExist) || len(missing.asked) != 1 {
			t.Errorf("no such pipe: %v after %d attempts", err, len(missing.asked))
		}
	})
}

// A manifest is whatever a stranger answers to the handshake.
func FuzzManifest(f *testing.F) {
	for _, s := range []string{
		`{"Implements":["VolumeDriver"]}`, `{"implements":null,"x":1}`, `{}`, `[]`, `null`, `""`, ``, `{"Implements":"a"}`,
		`{"Implements":["a"]} {"Implements":["b"]}`, `{"Implements":[1]}`,
	} {
		f.Add([]byte(s), false)
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, body []byte, chunked bool) {
		c, err := NewClientWithOptions("unix:///x", ClientOptions{
			MaxIdleConns: -1,
			DialContext: func(context.Context, string, string) (net.Conn, error) {
				answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
				if chunked {
					answer = fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
				}
				return cannedConn{fakeConn{r: strings.NewReader(answer)}}, nil
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		m, err := handshake(t.Context(), c)
		if err != nil && m != nil || err == nil && m == nil {
			t.Fatalf("%+v, %v", m, err)
		}
		if err != nil {
			return
		}
		p := &Plugin{name: "p", Manifest: m}
		for _, s := range m.Implements {
			if !p.Implements(s) {
				t.Fatalf("%q is in the manifest and not implemented", s)
			}
		}
	})
}

// cannedConn takes every request and has one answer.
type cannedConn struct{ fakeConn }

func (cannedConn) Write(p []byte) (int, error)      { return len(p), nil }
func (cannedConn) Close() error                     { return nil }
func (cannedConn) SetDeadline(time.Time) error      { return nil }
func (cannedConn) SetReadDeadline(time.Time) error  { return nil }
func (cannedConn) SetWriteDeadline(time.Time) error { return nil }
