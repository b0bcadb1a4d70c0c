package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"syscall"

	"github.com/outletd/outlet"
)

// The frames of an exec connection: a type, three zero bytes, the length of the
// payload as four bytes big endian, the payload.
const (
	frameStdin    = 0
	frameStdout   = 1
	frameStderr   = 2
	frameExit     = 3
	frameStdinEnd = 4
	frameResize   = 5
	frameError    = 7
	frameStart    = 16

	frameHeader = 8
	maxFrame    = 1 << 20
)

// Exec runs a further process in a running plugin and gives its exit code. When
// ctx ends the process is killed.
//
// p.Stdin is read until it ends or the process does; a Read that waits for its
// source when the process ends is not waited for. An error of writing to
// p.Stdout or p.Stderr ends the process and is returned.
func (c *Client) Exec(ctx context.Context, name string, p outlet.Process) (exitCode int, err error) {
	if _, err := pluginPath(name, ""); err != nil {
		return 0, err
	}
	resp, err := c.extension(ctx, request{
		method: http.MethodPost,
		path:   "/plugins/exec",
		query:  url.Values{"plugin": {name}},
		header: http.Header{"Connection": {"Upgrade"}, "Upgrade": {"outlet-exec"}},
	})
	if err != nil {
		return 0, err
	}
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
		resp.Body.Close() // only read from
		return 0, errors.New("the daemon did not open a connection to the process")
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // ends the process
	defer stop()
	defer conn.Close() // the process has ended

	w := &frameWriter{w: conn}
	start, err := json.Marshal(struct {
		Args     []string
		Env      []string `json:",omitempty"`
		Cwd      string   `json:",omitempty"`
		Terminal bool     `json:",omitempty"`
	}{p.Args, p.Env, p.Cwd, p.Terminal})
	if err != nil {
		return 0, fmt.Errorf("encode the process to start: %w", err)
	}
	// A daemon that has refused already does not take it; what it said of that
	// is still to be read.
	w.write(frameStart, start) //nolint:errcheck // a closed connection is noticed by the reading side
	ended := make(chan struct{})
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(ended)
	wg.Go(func() { sendSizes(w, p.Resize, ended) })
	go sendInput(w, p.Stdin)

	code, err := receive(bufio.NewReader(conn), p)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return 0, cause
	}
	return code, err
}

// sendInput ends with the input or, once the connection is closed, with the
// next thing read.
func sendInput(w *frameWriter, in io.Reader) {
	if in != nil {
		buf := make([]byte, 32<<10)
		for {
			n, err := in.Read(buf)
			if n > 0 && w.write(frameStdin, buf[:n]) != nil {
				return
			}
			if err != nil {
				break
			}
		}
	}
	w.write(frameStdinEnd, nil) //nolint:errcheck // a closed connection is noticed by the reading side
}

func sendSizes(w *frameWriter, sizes <-chan outlet.WindowSize, ended <-chan struct{}) {
	for {
		select {
		case <-ended:
			return
		case s, ok := <-sizes:
			if !ok {
				return
			}
			data, err := json.Marshal(s)
			if err != nil || w.write(frameResize, data) != nil {
				return
			}
		}
	}
}

// receive hands on what the process prints until it ends.
func receive(r io.Reader, p outlet.Process) (int, error) {
	for {
		kind, payload, err := readFrame(r)
		if err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) {
				err = errors.New("the daemon hung up before the process ended")
			}
			return 0, err
		}
		switch kind {
		case frameStdout:
			err = writeAll(p.Stdout, payload)
		case frameStderr:
			err = writeAll(p.Stderr, payload)
		case frameExit:
			var exit struct{ ExitCode *int }
			if err := json.Unmarshal(payload, &exit); err != nil || exit.ExitCode == nil {
				return 0, errors.New("the daemon did not say how the process ended")
			}
			return *exit.ExitCode, nil
		case frameError:
			e := &Error{}
			var m struct {
				Message string `json:"message"`
				Status  int    `json:"status"`
			}
			if json.Unmarshal(payload, &m) == nil {
				e.Message, e.Status = m.Message, m.Status
			}
			if e.Message == "" {
				e.Message = "the daemon could not run the process and gave no reason"
			}
			return 0, e
		default: // of a newer daemon: nothing we need
		}
		if err != nil {
			return 0, err
		}
	}
}

func writeAll(w io.Writer, p []byte) error {
	if w == nil {
		return nil
	}
	_, err := w.Write(p)
	return err
}

func readFrame(r io.Reader) (kind byte, payload []byte, err error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(h[4:])
	if n > maxFrame {
		return 0, nil, fmt.Errorf("the daemon sent a frame of %d bytes, more than %d", n, maxFrame)
	}
	payload = make([]byte, n)
	_, err = io.ReadFull(r, payload)
	return h[0], payload, err
}

// frameWriter writes whole frames; input and window sizes come from two
// goroutines.
type frameWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (f *frameWriter) write(kind byte, payload []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	buf := make([]byte, frameHeader, frameHeader+len(payload))
	buf[0] = kind
	binary.BigEndian.PutUint32(buf[4:], uint32(len(payload))) //nolint:gosec // at most 32 KiB
	_, err := f.w.Write(append(buf, payload...))
	return err
}
