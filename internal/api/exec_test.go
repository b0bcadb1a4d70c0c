package api

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

// execClient is the other side of the protocol.
type execClient struct {
	t    *testing.T
	conn *net.UnixConn
	r    *bufio.Reader
}

// upgrade opens an exec session.
func (g *rig) upgrade(t *testing.T) *execClient {
	t.Helper()
	c := g.dial()
	if _, err := io.WriteString(c, "POST /v1.51/outlet/v1/plugins/exec?plugin=foo/bar HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: outlet-exec\r\nContent-Length: 0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r := bufio.NewReader(c)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != execProtocol || res.Header.Get("Api-Version") != MaxVersion {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	return &execClient{t, c, r}
}

func (c *execClient) send(t frameType, payload any) {
	c.t.Helper()
	b, ok := payload.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(payload); err != nil {
			c.t.Fatal(err)
		}
	}
	if _, err := c.conn.Write(appendFrame(nil, t, b)); err != nil {
		c.t.Fatal(err)
	}
}

// rest reads to the end and returns both outputs and the last frame.
func (c *execClient) rest() (stdout, stderr string, t frameType, last string) {
	c.t.Helper()
	var out, errOut bytes.Buffer
	for {
		typ, payload, err := readFrame(c.r)
		if errors.Is(err, io.EOF) {
			_ = c.conn.Close()
			return out.String(), errOut.String(), t, last
		}
		if err != nil {
			c.t.Fatal(err)
		}
		switch typ {
		case frameStdout:
			out.Write(payload)
		case frameStderr:
			errOut.Write(payload)
		default:
			t, last = typ, string(payload)
		}
	}
}

// echo copies its input to its output.
func echo(_ context.Context, p outlet.Process) (int, error) {
	if _, err := io.Copy(p.Stdout, p.Stdin); err != nil {
		return 0, err
	}
	_, err := fmt.Fprintf(p.Stderr, "%v %v %s %v", p.Args, p.Env, p.Cwd, p.Terminal)
	return 7, err
}

func TestExec(t *testing.T) {
	g := newRig(t)
	g.plugins.exec.set(echo)
	c := g.upgrade(t)
	c.send(frameStart, execStart{Args: []string{"cat", "-"}, Env: []string{"A=b"}, Cwd: "/x", Terminal: true})
	big := bytes.Repeat([]byte("0123456789abcdef"), maxFrame/16)
	go func() { // both sides are full before the end
		for range 4 {
			_, _ = c.conn.Write(appendFrame(nil, frameStdin, big))
		}
		_, _ = c.conn.Write(appendFrame(nil, frameStdinEnd, nil))
	}()
	out, errOut, typ, last := c.rest()
	if want := strings.Repeat(string(big), 4); out != want {
		t.Errorf("%d bytes came back, want %d", len(out), len(want))
	}
	if errOut != "[cat -] [A=b] /x true" || typ != frameExit || last != `{"ExitCode":7}`+"\n" {
		t.Errorf("%q, %d %q", errOut, typ, last)
	}
}

func TestExecResizes(t *testing.T) {
	g := newRig(t)
	g.plugins.exec.set(func(ctx context.Context, p outlet.Process) (int, error) {
		for {
			select {
			case <-ctx.Done():
				return 0, ctx.Err()
			case size := <-p.Resize:
				_, _ = fmt.Fprintf(p.Stdout, "%dx%d", size.Rows, size.Columns)
				return 0, nil
			}
		}
	})
	c := g.upgrade(t)
	c.send(frameStart, execStart{Args: []string{"x"}})
	c.send(frameResize, outlet.WindowSize{Rows: 24, Columns: 80})
	if out, _, typ, _ := c.rest(); out != "24x80" || typ != frameExit {
		t.Errorf("%q, %d", out, typ)
	}
}

func TestOnlyTheLastSizeIsKept(t *testing.T) {
	x := &execSession{resize: make(chan outlet.WindowSize, 1)}
	for i := range uint16(5) {
		x.setSize(outlet.WindowSize{Rows: i})
	}
	if diff := cmp.Diff(outlet.WindowSize{Rows: 4}, <-x.resize); diff != "" {
		t.Error(diff)
	}
}

func TestExecErrors(t *testing.T) {
	g := newRig(t)
	waits := func(ctx context.Context, _ outlet.Process) (int, error) {
		<-ctx.Done()
		return -1, fmt.Errorf("killed: %w", ctx.Err())
	}
	start := appendFrame(nil, frameStart, []byte(`{"Args":["x"]}`))
	for name, c := range map[string]struct {
		send []byte
		exec func(context.Context, outlet.Process) (int, error)
		want execError
	}{
		"the plugin is not running": {start, func(context.Context, outlet.Process) (int, error) {
			return 0, outlet.Errorf(errdefs.ErrConflict, "plugin foo/bar:latest found but disabled")
		}, execError{"plugin foo/bar:latest found but disabled", 409}},
		"it cannot be started": {start, func(context.Context, outlet.Process) (int, error) {
			return 0, errors.New("no such file")
		}, execError{"no such file", 500}},
		"it panics": {start, func(context.Context, outlet.Process) (int, error) {
			panic("boom")
		}, execError{"the process could not be run: panic: boom", 500}},
		"another frame first":     {appendFrame(nil, frameStdin, []byte("x")), waits, execError{"the first frame must say what to run, got type 0", 400}},
		"nothing to run":          {appendFrame(nil, frameStart, []byte(`{}`)), waits, execError{"Args is empty: there is nothing to run", 400}},
		"a start that is no JSON": {appendFrame(nil, frameStart, []byte(`{`)), waits, execError{"invalid JSON: unexpected end of JSON input", 400}},
		"a frame too long":        {append(start[:len(start):len(start)], 0, 0, 0, 0, 0, 16, 0, 1), waits, execError{"malformed frame: 1048577 bytes are more than 1048576", 400}},
		"a frame of nonsense":     {append(start[:len(start):len(start)], "GET / HTTP/1.1"...), waits, execError{"malformed frame: header 47 45 54 20 2f 20 48 54", 400}},
		"a frame of the server":   {appendFrame(start[:len(start):len(start)], frameExit, nil), waits, execError{"a frame of type 3 is not expected", 400}},
		"a size that is none":     {appendFrame(start[:len(start):len(start)], frameResize, []byte("{\"Rows\":-1}")), waits, execError{"invalid JSON: json: cannot unmarshal number -1 into Go struct field WindowSize.Rows of type uint16", 400}},
	} {
		t.Run(name, func(t *testing.T) {
			g.plugins.exec.set(c.exec)
			client := g.upgrade(t)
			if _, err := client.conn.Write(c.send); err != nil {
				t.Fatal(err)
			}
			_, _, typ, last := client.rest()
			var got execError
			if err := json.Unmarshal([]byte(last), &got); err != nil || typ != frameError {
				t.Fatalf("%d %q", typ, last)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestExecOfAnUnknownPluginIsAStatus(t *testing.T) {
	g := newRig(t)
	g.do("POST", "/outlet/v1/plugins/exec?plugin=no", "", "", "Connection", "Upgrade", "Upgrade", "outlet-exec").
		checkError(t, 404, `plugin "no" not found`)
}

func TestHangingUpKillsTheProcess(t *testing.T) {
	for name, hangUp := range map[string]func(c *execClient){
		"closed":         func(c *execClient) { _ = c.conn.Close() },
		"half-closed":    func(c *execClient) { _ = c.conn.CloseWrite() },
		"within a frame": func(c *execClient) { _, _ = c.conn.Write([]byte{0, 0, 0, 0, 0, 0, 0, 9, 1}); _ = c.conn.Close() },
		"while its input is not read": func(c *execClient) {
			c.send(frameStdin, make([]byte, maxStdin))
			// This much fits the socket; the server does not read it any more.
			_, _ = c.conn.Write(appendFrame(nil, frameStdin, make([]byte, 1000)))
			_ = c.conn.Close()
		},
		"while its output is not read": func(c *execClient) {
			// The process is stuck in a write.
			if _, _, err := readFrame(c.r); err != nil {
				c.t.Error(err)
			}
			_ = c.conn.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			ended := make(chan struct{})
			g.plugins.exec.set(func(ctx context.Context, p outlet.Process) (int, error) {
				defer close(ended)
				if strings.HasPrefix(name, "while its output") {
					for {
						if _, err := p.Stdout.Write(make([]byte, maxFrame)); err != nil {
							break
						}
					}
				}
				<-ctx.Done()
				return -1, ctx.Err()
			})
			c := g.upgrade(t)
			c.send(frameStart, execStart{Args: []string{"x"}})
			hangUp(c)
			select {
			case <-ended:
			case <-time.After(time.Minute):
				t.Error("the process goes on")
			}
		})
	}
}

func TestShutdownEndsExec(t *testing.T) {
	g := newRig(t)
	running := make(chan struct{})
	g.plugins.exec.set(func(ctx context.Context, _ outlet.Process) (int, error) {
		close(running)
		<-ctx.Done()
		return -1, ctx.Err()
	})
	c := g.upgrade(t)
	c.send(frameStart, execStart{Args: []string{"x"}})
	<-running
	done := make(chan error, 1)
	go func() { done <- g.Shutdown(t.Context()) }()
	_, _, typ, last := c.rest()
	if typ != frameError || last != `{"message":"the daemon shuts down","status":503}`+"\n" {
		t.Errorf("%d %q", typ, last)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte{})
	f.Add(appendFrame(nil, frameStart, []byte(`{"Args":["x"]}`)))
	f.Add(appendFrame(appendFrame(nil, frameStdin, []byte("x")), frameStdinEnd, nil))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var again []byte
		for {
			typ, payload, err := readFrame(r)
			if err != nil {
				break
			}
			again = appendFrame(again, typ, payload)
		}
		if !bytes.HasPrefix(data, again) {
			t.Errorf("%x is read as %x", data, again)
		}
	})
}
