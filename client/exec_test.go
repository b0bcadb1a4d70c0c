package client

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// execDaemon hands the connection of an exec to a function.
func execDaemon(t *testing.T, f func(rw io.ReadWriter)) *Client {
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "outlet-exec" || r.Header.Get("Connection") != "Upgrade" {
			t.Errorf("headers %v", r.Header)
		}
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: outlet-exec\r\n\r\n")
		f(struct {
			io.Reader
			io.Writer
		}{rw, conn})
	})
}

func frame(kind byte, payload string) string {
	h := binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, uint32(len(payload)))
	return string(h) + payload
}

func TestExecCarriesAllStreamsAndTheExitCode(t *testing.T) {
	c := execDaemon(t, func(rw io.ReadWriter) {
		var input bytes.Buffer
		for {
			kind, payload, err := readFrame(rw)
			if err != nil {
				t.Error(err)
				return
			}
			switch kind {
			case frameStart:
				if want := `{"Args":["cat"],"Env":["A=b"],"Cwd":"/x","Terminal":true}`; string(payload) != want {
					t.Errorf("started with %s", payload)
				}
			case frameResize:
				if string(payload) != `{"Rows":24,"Columns":80}` {
					t.Errorf("resized to %s", payload)
				}
			case frameStdin:
				input.Write(payload)
			case frameStdinEnd:
				io.WriteString(rw, frame(frameStdout, input.String())+frame(99, "new")+frame(frameStderr, "oh")+frame(frameStdout, "!")+frame(frameExit, `{"ExitCode":137}`))
				return
			}
		}
	})
	input := strings.Repeat("0123456789", 10_000)
	sizes := make(chan outlet.WindowSize, 1)
	sizes <- outlet.WindowSize{Rows: 24, Columns: 80}
	var out, errs bytes.Buffer
	code, err := c.Exec(t.Context(), "x", outlet.Process{
		Args: []string{"cat"}, Env: []string{"A=b"}, Cwd: "/x", Terminal: true,
		Stdin: strings.NewReader(input), Stdout: &out, Stderr: &errs, Resize: sizes,
	})
	if err != nil || code != 137 {
		t.Errorf("code %d, %v", code, err)
	}
	if out.String() != input+"!" || errs.String() != "oh" {
		t.Errorf("%d bytes of output, %q", out.Len(), errs.String())
	}
}

func TestExecErrorsAreErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		sends string
		class error
		text  string
	}{
		"the daemon's":           {frame(frameError, `{"message":"nope: no such file","status":404}`), errdefs.ErrNotFound, "nope: no such file"},
		"without a text":         {frame(frameError, `{}`), errdefs.ErrInternal, "gave no reason"},
		"hung up":                {frame(frameStdout, "x"), nil, "the daemon hung up before the process ended"},
		"hung up in a frame":     {frame(frameStdout, "x")[:8], nil, "the daemon hung up before the process ended"},
		"an exit without code":   {frame(frameExit, `{}`), nil, "did not say how the process ended"},
		"a frame that is long":   {"\x01\x00\x00\x00\xff\xff\xff\xff", nil, "a frame of 4294967295 bytes"},
		"output nobody can take": {frame(frameStdout, "x"), io.ErrClosedPipe, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := execDaemon(t, func(rw io.ReadWriter) {
				io.WriteString(rw, tt.sends)
			})
			p := outlet.Process{Args: []string{"x"}}
			if errors.Is(tt.class, io.ErrClosedPipe) {
				_, w := io.Pipe()
				w.Close() // always nil
				p.Stdout = w
			}
			_, err := c.Exec(t.Context(), "x", p)
			if err == nil || tt.class != nil && !errors.Is(err, tt.class) || !strings.Contains(err.Error(), tt.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAnExecRefusedBeforeItBeganIsAStatus(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(409)
		fmt.Fprintln(w, `{"message":"not running"}`)
	})
	if _, err := c.Exec(t.Context(), "x", outlet.Process{}); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("got %v", err)
	}
	c = serve(t, func(http.ResponseWriter, *http.Request) {})
	if _, err := c.Exec(t.Context(), "x", outlet.Process{}); err == nil {
		t.Error("an ordinary answer was taken for a connection")
	}
}

func TestTheContextsEndClosesTheConnection(t *testing.T) {
	gone := make(chan struct{})
	started := make(chan struct{})
	c := execDaemon(t, func(rw io.ReadWriter) {
		defer close(gone)
		for first := true; ; first = false {
			if _, _, err := readFrame(rw); err != nil {
				return
			}
			if first {
				close(started)
			}
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-started
		cancel()
	}()
	if _, err := c.Exec(ctx, "x", outlet.Process{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	<-gone
}

func FuzzFramesOfADaemon(f *testing.F) {
	f.Add([]byte(frame(frameStdout, "x") + frame(frameExit, `{"ExitCode":1}`)))
	f.Add([]byte(frame(frameError, `{"message":"x","status":404}`)))
	f.Fuzz(func(t *testing.T, sent []byte) {
		code, err := receive(bytes.NewReader(sent), outlet.Process{})
		if err != nil && code != 0 {
			t.Errorf("code %d and %v", code, err)
		}
	})
}
