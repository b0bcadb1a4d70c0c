package manager

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// fakeRuntime runs "containers" that are listeners in this process, so that the
// life cycle is tested without privileges, and every failure can be had. Like a
// real one it outlives the managers that use it.
type fakeRuntime struct {
	mu    sync.Mutex
	tasks map[string]*fakeTask
	// behave decides what the next start does.
	behave func(b runtime.Bundle) behaviour
	starts int
	held   <-chan struct{} // Purge waits for it, if it is not nil
}

// behaviour is what a started fake does.
type behaviour struct {
	refuse     error        // Start fails
	noListen   bool         // no socket appears
	listenAs   string       // its name, if not the right one
	exitAtOnce *outlet.Exit // it ends before it listens
	print      string       // to its standard error
	stubborn   bool         // ignores SIGTERM
	immortal   bool         // and SIGKILL
	handler    http.Handler
}

func newFakeRuntime() *fakeRuntime {
	return &fakeRuntime{tasks: make(map[string]*fakeTask), behave: func(runtime.Bundle) behaviour { return behaviour{} }}
}

func (f *fakeRuntime) Info(context.Context) (runtime.Info, error) {
	return runtime.Info{Name: "fake", Version: "1"}, nil
}

func (f *fakeRuntime) set(b behaviour) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.behave = func(runtime.Bundle) behaviour { return b }
}

func (f *fakeRuntime) started() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.starts
}

func (f *fakeRuntime) task(id string) *fakeTask {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.tasks[id]
}

func (f *fakeRuntime) Start(_ context.Context, b runtime.Bundle) (runtime.Task, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.starts++
	how := f.behave(b)
	if how.refuse != nil {
		return nil, how.refuse
	}
	if f.tasks[b.ID] != nil {
		return nil, fmt.Errorf("container %s exists", b.ID)
	}
	t := &fakeTask{f: f, id: b.ID, how: how, done: make(chan struct{}), pid: 100000 + f.starts}
	f.tasks[b.ID] = t
	if how.print != "" {
		fmt.Fprintln(b.Stderr, how.print)
	}
	if how.exitAtOnce != nil {
		t.end(*how.exitAtOnce)
		return t, nil
	}
	if !how.noListen {
		name := how.listenAs
		if name == "" {
			name = "p.sock"
		}
		// Owned[0] is the socket's directory.
		l, err := net.Listen("unix", filepath.Join(b.Owned[0], name))
		if err != nil {
			return nil, err
		}
		h := how.handler
		if h == nil {
			h = http.NotFoundHandler()
		}
		t.server = &http.Server{Handler: h}
		t.wg.Go(func() { _ = t.server.Serve(l) })
	}
	return t, nil
}

func (f *fakeRuntime) Attach(_ context.Context, b runtime.Bundle) (runtime.Task, error) {
	if t := f.task(b.ID); t != nil {
		return t, nil
	}
	return nil, errdefs.ErrNotFound
}

// hold lets Purge wait until release is closed.
func (f *fakeRuntime) hold(release <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = release
}

func (f *fakeRuntime) Purge(ctx context.Context, id string) error {
	f.mu.Lock()
	held := f.held
	f.mu.Unlock()
	if held != nil {
		<-held
	}
	t := f.task(id)
	if t == nil {
		return nil
	}
	if err := t.Kill(ctx); err != nil {
		return err
	}
	return t.Delete(ctx)
}

func (f *fakeRuntime) List(context.Context) ([]string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var ids []string
	for id := range f.tasks {
		ids = append(ids, id)
	}
	return ids, nil
}

type fakeTask struct {
	f      *fakeRuntime
	id     string
	how    behaviour
	pid    int
	server *http.Server
	wg     sync.WaitGroup

	once sync.Once
	exit outlet.Exit
	done chan struct{}
}

func (t *fakeTask) end(e outlet.Exit) {
	t.once.Do(func() {
		e.At = time.Now()
		t.exit = e
		if t.server != nil {
			_ = t.server.Close()
			t.wg.Wait()
		}
		close(t.done)
	})
}

func (t *fakeTask) PID() int              { return t.pid }
func (t *fakeTask) Done() <-chan struct{} { return t.done }
func (t *fakeTask) Exit() outlet.Exit     { return t.exit }

func (t *fakeTask) Signal(_ context.Context, sig syscall.Signal) error {
	if sig == syscall.SIGTERM && !t.how.stubborn && !t.how.immortal {
		t.end(outlet.Exit{Code: 0})
	}
	return nil
}

func (t *fakeTask) Kill(context.Context) error {
	select {
	case <-t.done: // somebody ended it after all
		return nil
	default:
	}
	if t.how.immortal {
		return errors.New("a process does not end")
	}
	t.end(outlet.Exit{Code: 137, Signal: 9})
	return nil
}

func (t *fakeTask) Delete(context.Context) error {
	select {
	case <-t.done:
	default:
		return errdefs.ErrConflict
	}
	t.f.mu.Lock()
	defer t.f.mu.Unlock()
	delete(t.f.tasks, t.id)
	return nil
}

func (t *fakeTask) Exec(_ context.Context, p outlet.Process) (int, error) {
	_, err := fmt.Fprintln(p.Stdout, p.Args)
	return 7, err
}

func (t *fakeTask) Stats(context.Context) (runtime.Stats, error) { return runtime.Stats{}, nil }

// fixture is a manager over a fake runtime.
type fixture struct {
	*Manager
	t  *testing.T
	rt *fakeRuntime
}

func newFixture(t *testing.T, change ...func(*Config)) *fixture {
	t.Helper()
	dir := testutil.TempDir(t)
	return openFixture(t, dir, newFakeRuntime(), change...)
}

func openFixture(t *testing.T, dir string, rt *fakeRuntime, change ...func(*Config)) *fixture {
	t.Helper()
	cfg := Config{
		Root: filepath.Join(dir, "root"), ExecRoot: filepath.Join(dir, "x"),
		Runtime: rt, LiveRestore: true, StopTimeout: 200 * time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	for _, f := range change {
		f(&cfg)
	}
	m, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.maxDoubts = 3 // before there are delays
	if err := m.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	f := &fixture{Manager: m, t: t, rt: rt}
	t.Cleanup(f.close)
	return f
}

// close ends the manager and, the test being over, its plugins.
func (f *fixture) close() {
	f.SetLiveRestore(false)
	if err := f.Close(context.Background()); err != nil {
		f.t.Error(err)
	}
	ids, _ := f.rt.List(context.Background())
	for _, id := range ids {
		f.rt.task(id).end(outlet.Exit{})
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(string(bytes.TrimSpace(p)))
	return len(p), nil
}

// create makes a plugin.
func (f *fixture) create(name string, change ...func(*outlet.Config)) outlet.Plugin {
	f.t.Helper()
	p, _, err := f.Create(f.t.Context(), name, archive(f.t, change...), outlet.CreateOptions{})
	if err != nil {
		f.t.Fatal(err)
	}
	return p
}

// archive is a create context of a volume plugin.
func archive(t *testing.T, change ...func(*outlet.Config)) io.Reader {
	t.Helper()
	cfg := outlet.Config{
		Description: "test",
		Entrypoint:  []string{"/plugin"},
		Interface:   outlet.Interface{Socket: "p.sock", Types: []outlet.Capability{outlet.ParseCapability("docker.volumedriver/1.0")}},
		Env:         []outlet.Env{{Name: "DEBUG", Settable: []string{"value"}, Value: new(string)}},
	}
	for _, c := range change {
		c(&cfg)
	}
	raw, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range []struct {
		name string
		kind byte
		body []byte
	}{{"config.json", tar.TypeReg, raw}, {"rootfs/", tar.TypeDir, nil}, {"rootfs/plugin", tar.TypeReg, []byte("#!/bin/sh\n")}} {
		if err := w.WriteHeader(&tar.Header{Name: e.name, Typeflag: e.kind, Mode: 0o755, Size: int64(len(e.body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &b
}

// state waits for a plugin to be in a state.
func (f *fixture) state(name string, want outlet.State) outlet.Plugin {
	f.t.Helper()
	var p outlet.Plugin
	testutil.Eventually(f.t, time.Minute, func() error {
		var err error
		if p, err = f.Inspect(f.t.Context(), name); err == nil && p.Status.State != want {
			err = fmt.Errorf("%s is %s (%s), not %s", name, p.Status.State, p.Status.Error, want)
		}
		return err
	})
	return p
}

func (f *fixture) enable(name string) {
	f.t.Helper()
	if err := f.Enable(f.t.Context(), name, outlet.EnableOptions{}); err != nil {
		f.t.Fatal(err)
	}
}
