package runtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil" //nolint:depguard // this package is for tests only
)

// buffer is a bytes.Buffer for two goroutines.
type buffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func wantAccepts(t testing.TB, b *Box) {
	t.Helper()
	testutil.Eventually(t, limit, func() error {
		c, err := new(net.Dialer).DialContext(t.Context(), "unix", b.Socket)
		if err != nil {
			return fmt.Errorf("%w, stderr %q", err, b.Errors(t))
		}
		return c.Close()
	})
}

func testExec(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
	task := f.start(t, b)
	b.wantReady(t)

	var out, errs buffer
	code, err := task.Exec(t.Context(), outlet.Process{
		Args:   []string{ProgramPath, "show", "x"},
		Env:    []string{"FROM=exec", "MORE=1"},
		Cwd:    "/tmp",
		Stdout: &out, Stderr: &errs,
	})
	must(t, err)
	if code != 0 {
		t.Errorf("exit code is %d", code)
	}
	for _, want := range []string{"args [x]", "cwd /tmp", "env PATH=/bin", "env FROM=exec", "env MORE=1", "stdin 0 EOF"} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if errs.String() != "to stderr\n" {
		t.Errorf("stderr is %q", errs.String())
	}

	for _, want := range []int{0, 3, 255} {
		code, err := task.Exec(t.Context(), outlet.Process{Args: []string{ProgramPath, "exit", fmt.Sprint(want)}})
		if err != nil || code != want {
			t.Errorf("exit code is %d, %v, want %d", code, err, want)
		}
	}

	// More than a pipe holds, both ways.
	in := strings.Repeat("0123456789abcdef\n", 20000)
	out, errs = buffer{}, buffer{}
	code, err = task.Exec(t.Context(), outlet.Process{
		Args: []string{ProgramPath, "cat"}, Stdin: strings.NewReader(in), Stdout: &out, Stderr: &errs,
	})
	if err != nil || code != 0 || out.String() != in || errs.String() != "end" {
		t.Errorf("cat: %d, %v, %d bytes of %d, stderr %q", code, err, len(out.String()), len(in), errs.String())
	}
	wantRunning(t, task)
}

func testExecCanceled(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
	task := f.start(t, b)
	b.wantReady(t)
	ctx, cancel := context.WithCancel(t.Context())
	in, w := io.Pipe()
	defer func() { _ = w.Close() }()
	var out buffer
	ended := make(chan error, 1)
	go func() {
		_, err := task.Exec(ctx, outlet.Process{
			Args: []string{ProgramPath, "ignore", b.Mark}, Stdin: in, Stdout: &out,
		})
		ended <- err
	}()
	b.wantProcesses(t, 2)
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
	case <-time.After(limit):
		t.Fatal("exec does not end")
	}
	b.wantProcesses(t, 1)
	wantRunning(t, task)
}

func testExecLeaves(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
	task := f.start(t, b)
	b.wantReady(t)
	var out buffer
	code, err := task.Exec(t.Context(), outlet.Process{
		Args: []string{ProgramPath, "abandon", "1", b.Mark}, Stdout: &out,
	})
	if err != nil || code != 0 || !strings.Contains(out.String(), "ready") {
		t.Errorf("exec ended with %d, %v, output %q", code, err, out.String())
	}
	b.wantProcesses(t, 2)
	must(t, task.Kill(t.Context()))
	b.wantProcesses(t, 0)
}

func testExecTerminal(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
	task := f.start(t, b)
	b.wantReady(t)
	in, w := io.Pipe()
	defer func() { _ = w.Close() }()
	resize := make(chan outlet.WindowSize)
	var out buffer
	type result struct {
		code int
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		code, err := task.Exec(t.Context(), outlet.Process{
			Args: []string{ProgramPath, "tty"}, Terminal: true, Stdin: in, Stdout: &out, Resize: resize,
		})
		ended <- result{code, err}
	}()
	for _, size := range []outlet.WindowSize{{Rows: 33, Columns: 101}, {Rows: 5, Columns: 7}} {
		select {
		case resize <- size:
		case r := <-ended:
			t.Fatalf("exec ended: %+v, output %q", r, out.String())
		case <-time.After(limit):
			t.Fatal("nobody takes the size")
		}
		// The size is set after it was taken: ask until it shows.
		testutil.Eventually(t, limit, func() error {
			_, err := io.WriteString(w, "size?\n")
			if want := fmt.Sprintf("size %dx%d", size.Rows, size.Columns); err == nil && !strings.Contains(out.String(), want) {
				err = fmt.Errorf("no %q in %q", want, out.String())
			}
			return err
		})
	}
	_, err := io.WriteString(w, "exit\n")
	must(t, err)
	select {
	case r := <-ended:
		if r.err != nil || r.code != 9 {
			t.Errorf("exec ended with %d, %v, want 9", r.code, r.err)
		}
	case <-time.After(limit):
		t.Fatal("exec does not end")
	}
	wantRunning(t, task)
}

func testExecFails(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
	task := f.start(t, b)
	b.wantReady(t)
	for _, terminal := range []bool{false, true} {
		_, err := task.Exec(t.Context(), outlet.Process{Args: []string{"/missing"}, Terminal: terminal})
		wantClass(t, err, errdefs.ErrInvalidArgument)
		if !strings.Contains(err.Error(), "/missing") {
			t.Errorf("error %q does not name the command", err)
		}
	}
	_, err := task.Exec(t.Context(), outlet.Process{})
	wantClass(t, err, errdefs.ErrInvalidArgument)
	must(t, task.Kill(t.Context()))
	_, err = task.Exec(t.Context(), outlet.Process{Args: []string{ProgramPath, "exit", "0"}})
	wantClass(t, err, errdefs.ErrConflict)
}
