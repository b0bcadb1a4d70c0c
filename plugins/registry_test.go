package plugins_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
	"github.com/outletd/outlet/plugins/pluginstest"
)

const volumeDriver = "VolumeDriver"

func (tr *tree) plugin(name string, implements ...string) *pluginstest.Plugin {
	tr.t.Helper()
	return pluginstest.Start(tr.t, filepath.Join(tr.sock, name+".sock"), implements...)
}

// silent is a socket that accepts and never answers.
func (tr *tree) silent(name string) {
	tr.t.Helper()
	l, err := net.Listen("unix", filepath.Join(tr.sock, name+".sock"))
	if err != nil {
		tr.t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
		}
	}()
	tr.t.Cleanup(func() {
		l.Close()
		<-done
		for _, c := range conns {
			c.Close()
		}
	})
}

// counting has the registry count how often it connects.
func counting(dials *atomic.Int32) func(*plugins.Config) {
	return func(c *plugins.Config) {
		c.Client.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	}
}

// joining is a context for Get that tells when it is waited for: when the caller
// has joined an attempt.
type joining struct {
	context.Context //nolint:containedctx // it is one
	joined          func()
}

func (j joining) Done() <-chan struct{} {
	j.joined()
	return j.Context.Done()
}

func names(all []*plugins.Plugin) []string {
	var s []string
	for _, p := range all {
		s = append(s, p.Name())
	}
	return s
}

func TestGetActivatesOnce(t *testing.T) {
	tr := newTree(t)
	p := tr.plugin("p", volumeDriver, "other")
	r := tr.registry()
	first, err := r.Get(t.Context(), "p", volumeDriver)
	must(t, err)
	second, err := r.Get(t.Context(), "p", "other")
	must(t, err)
	if first != second || first.Client() == nil || !slices.Equal(first.Manifest.Implements, []string{volumeDriver, "other"}) {
		t.Errorf("%+v and %+v", first, second)
	}
	if first.Name() != "p" || first.Protocol() != "moby.plugins.http/v1" || !first.IsV1() || first.ScopedPath("/x/../y") != "/x/../y" {
		t.Errorf("plugin %+v", first)
	}
	reqs := p.Requests("Plugin.Activate")
	if len(reqs) != 1 || len(reqs[0].Body) != 0 || reqs[0].Header.Get("Content-Length") != "0" {
		t.Errorf("handshakes %+v", reqs)
	}
	_, err = r.Get(t.Context(), "p", "volumedriver")
	want := `Plugin does not implement the requested driver: plugin="p", requested implementation="volumedriver"`
	if !errors.Is(err, plugins.ErrNotImplements) || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestActivationFailures(t *testing.T) {
	for _, tt := range []struct {
		name string
		set  func(p *pluginstest.Plugin)
		ok   bool
	}{
		{"nothing implemented", func(p *pluginstest.Plugin) { p.Reply("Plugin.Activate", map[string]any{"Implements": nil}) }, true},
		{"empty object", func(p *pluginstest.Plugin) { p.Reply("Plugin.Activate", struct{}{}) }, true},
		{"status", func(p *pluginstest.Plugin) { p.Fail("Plugin.Activate", 500, "not today") }, false},
		{"created", func(p *pluginstest.Plugin) { p.Fail("Plugin.Activate", 201, "") }, false},
		{"no JSON", func(p *pluginstest.Plugin) {
			p.Handle("Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hi") })
		}, false},
		{"empty body", func(p *pluginstest.Plugin) {
			p.Handle("Plugin.Activate", func(http.ResponseWriter, *http.Request) {})
		}, false},
		{"wrong type", func(p *pluginstest.Plugin) { p.Reply("Plugin.Activate", map[string]any{"Implements": "x"}) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tr := newTree(t)
			tt.set(tr.plugin("p"))
			_, err := tr.registry().Get(t.Context(), "p", "x", plugins.WithBudget(0))
			var ae *plugins.ActivationError
			if tt.ok {
				if !errors.Is(err, plugins.ErrNotImplements) {
					t.Errorf("error %v, want that it implements nothing", err)
				}
			} else if !errors.As(err, &ae) || ae.Name != "p" {
				t.Errorf("error %v, want one of the activation", err)
			}
		})
	}
}

func TestD20ChangedDefinitionIsNoticed(t *testing.T) {
	tr := newTree(t)
	old := tr.plugin("p", volumeDriver)
	r := tr.registry()
	first, err := r.Get(t.Context(), "p", volumeDriver)
	must(t, err)
	old.Close()
	// Reinstalled behind a spec file, with another manifest.
	moved := pluginstest.StartTCP(t, nil, "NetworkDriver")
	tr.write(filepath.Join(tr.a, "p.spec"), moved.Addr)
	second, err := r.Get(t.Context(), "p", "NetworkDriver")
	must(t, err)
	if second.Addr != moved.Addr || second.Implements(volumeDriver) {
		t.Errorf("plugin %+v", second)
	}
	// And back to a socket, which comes first.
	tr.plugin("p", volumeDriver)
	third, err := r.Get(t.Context(), "p", volumeDriver)
	must(t, err)
	if third.Addr != first.Addr || third == first {
		t.Errorf("plugin %+v", third)
	}
}

func TestRestartedPluginIsActivatedAgain(t *testing.T) {
	tr := newTree(t)
	pluginstest.Start(t, filepath.Join(tr.sock, "p.sock"), volumeDriver).Close()
	old := tr.plugin("p", volumeDriver)
	r := tr.registry()
	var runs atomic.Int32
	must(t, r.Handle(t.Context(), volumeDriver, func(context.Context, string, *plugins.Client) error {
		runs.Add(1)
		return nil
	}))
	first, err := r.Get(t.Context(), "p", volumeDriver)
	must(t, err)
	old.Close()
	if err := first.Client().CallContext(t.Context(), "X.Y", nil, nil, plugins.WithRetryBudget(-1)); err == nil {
		t.Error("a dead plugin answered")
	}
	restarted := tr.plugin("p", volumeDriver)
	second, err := r.Get(t.Context(), "p", volumeDriver)
	must(t, err)
	if second == first || len(restarted.Requests("Plugin.Activate")) != 1 || runs.Load() != 2 {
		t.Errorf("handshakes %d, handlers ran %d times", len(restarted.Requests("Plugin.Activate")), runs.Load())
	}
}

func TestD21DeadSocketsDoNotStallGetAll(t *testing.T) {
	tr := newTree(t)
	for i := range 50 {
		tr.socket(filepath.Join(tr.sock, fmt.Sprintf("dead%02d.sock", i)))
	}
	tr.plugin("good", volumeDriver)
	var dials atomic.Int32
	r := tr.registry(counting(&dials))
	for i := range 2 {
		start := time.Now()
		all, err := r.GetAll(t.Context(), volumeDriver)
		if d := time.Since(start); d > 10*time.Second {
			t.Errorf("call %d took %v", i+1, d) // they are tried once, and not for as long as Get tries
		}
		if n := dials.Load(); n != 51 {
			t.Errorf("after call %d there were %d connections, want one each, and none again", i+1, n)
		}
		if !slices.Equal(names(all), []string{"good"}) {
			t.Errorf("found %q", names(all))
		}
		if n := strings.Count(fmt.Sprint(err), "connection refused"); n != 50 {
			t.Errorf("call %d reports %d dead plugins", i+1, n)
		}
	}
}

func TestD21SilentSocketsCostOnce(t *testing.T) {
	tr := newTree(t)
	const silent = 100
	for i := range silent {
		tr.silent(fmt.Sprintf("silent%03d", i))
	}
	tr.plugin("zgood", volumeDriver)
	var dials atomic.Int32
	r := tr.registry(func(c *plugins.Config) { c.ProbeTimeout = 3 * time.Second }, counting(&dials))
	for i := range 2 {
		start := time.Now()
		all, err := r.GetAll(t.Context(), volumeDriver)
		if d := time.Since(start); d > 30*time.Second {
			t.Errorf("call %d took %v", i+1, d) // one after the other it would be 300s
		}
		if n := dials.Load(); n != silent+1 {
			t.Errorf("after call %d there were %d connections, want one each, and none again", i+1, n)
		}
		if !slices.Equal(names(all), []string{"zgood"}) || strings.Count(fmt.Sprint(err), "no answer within 3s") != silent {
			t.Errorf("found %q, %v", names(all), err)
		}
	}
}

func TestFailureIsForgotten(t *testing.T) {
	tr := newTree(t)
	p := tr.plugin("p", volumeDriver)
	p.Fail("Plugin.Activate", 500, "not yet")
	r := tr.registry()
	probes := func() int { return len(p.Requests("Plugin.Activate")) }
	for range 3 {
		all, err := r.GetAll(t.Context(), volumeDriver)
		if len(all) != 0 || err == nil {
			t.Fatalf("%q, %v", names(all), err)
		}
	}
	if probes() != 1 {
		t.Errorf("%d probes in three calls", probes())
	}
	if _, err := r.Get(t.Context(), "p", volumeDriver, plugins.WithBudget(0)); err == nil || probes() != 2 {
		t.Errorf("get: %v after %d probes, want a probe of its own", err, probes())
	}
	later := time.Now().Add(time.Second)
	must(t, os.Chtimes(filepath.Join(tr.sock, "p.sock"), later, later))
	p.Reply("Plugin.Activate", map[string]any{"Implements": []string{volumeDriver}})
	if all, err := r.GetAll(t.Context(), volumeDriver); len(all) != 1 || err != nil {
		t.Errorf("after the definition changed: %q, %v", names(all), err)
	}
}

func TestD16GetAllHasEachPluginOnceAndSorted(t *testing.T) {
	tr := newTree(t)
	for _, name := range []string{"c", "a", "b"} {
		p := tr.plugin(name, volumeDriver)
		tr.write(filepath.Join(tr.a, name+".spec"), p.Addr)
		tr.write(filepath.Join(tr.b, name+".json"), fmt.Sprintf(`{"Addr":%q}`, p.Addr))
	}
	tr.plugin("net", "NetworkDriver")
	r := tr.registry()
	for range 2 {
		all, err := r.GetAll(t.Context(), volumeDriver)
		if err != nil || !slices.Equal(names(all), []string{"a", "b", "c"}) {
			t.Errorf("%q, %v", names(all), err)
		}
	}
}

func TestDiscoverShowsEverything(t *testing.T) {
	tr := newTree(t)
	tr.plugin("good", volumeDriver, "NetworkDriver")
	tr.socket(filepath.Join(tr.sock, "dead.sock"))
	tr.write(filepath.Join(tr.a, "nonsense.spec"), "nonsense")
	all, err := tr.registry().Discover(t.Context())
	must(t, err)
	if len(all) != 3 || all[0].Name != "dead" || all[1].Name != "good" || all[2].Name != "nonsense" {
		t.Fatalf("found %+v", all)
	}
	if all[0].Err == nil || all[0].Plugin != nil || all[2].Err == nil || all[2].Path != filepath.Join(tr.a, "nonsense.spec") {
		t.Errorf("found %+v", all)
	}
	if good := all[1]; good.Err != nil || !good.Plugin.Implements("NetworkDriver") || good.Plugin.Origin() != good.Path {
		t.Errorf("found %+v", good)
	}
}

func TestD22UnknownNameIsCancellableAndShowsProgress(t *testing.T) {
	r := newTree(t).registry()
	if _, err := r.Get(t.Context(), "typo", volumeDriver, plugins.WithBudget(0), plugins.WithProgress(func(error, time.Duration) {
		t.Error("waits with a budget of 0")
	})); !errors.Is(err, plugins.ErrNotFound) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var told []time.Duration
	var cancelled time.Time
	_, err := r.Get(ctx, "typo", volumeDriver, plugins.WithProgress(func(err error, next time.Duration) {
		if !errors.Is(err, plugins.ErrNotFound) {
			t.Errorf("waits because of %v", err)
		}
		if told = append(told, next); next > time.Second {
			time.AfterFunc(20*time.Millisecond, func() { cancelled = time.Now(); cancel() })
		}
	}))
	if !errors.Is(err, context.Canceled) || !slices.Equal(told, []time.Duration{time.Second, 2 * time.Second}) {
		t.Errorf("error %v, told %v", err, told)
	}
	if d := time.Since(cancelled); d > 1500*time.Millisecond {
		t.Errorf("the wait went on for %v", d)
	}
}

func TestFileThatAppearsEndsTheWait(t *testing.T) {
	for name, appear := range map[string]func(tr *tree, p *pluginstest.Plugin){
		"spec": func(tr *tree, p *pluginstest.Plugin) { tr.write(filepath.Join(tr.a, "p.spec"), p.Addr) },
		"json": func(tr *tree, p *pluginstest.Plugin) {
			tr.write(filepath.Join(tr.b, "p/p.json"), fmt.Sprintf(`{"Addr":%q}`, p.Addr))
		},
		"socket":               func(tr *tree, _ *pluginstest.Plugin) { tr.plugin("p", volumeDriver) },
		"socket in new folder": func(tr *tree, _ *pluginstest.Plugin) { tr.plugin("p/p", volumeDriver) },
		"new directory": func(tr *tree, p *pluginstest.Plugin) {
			must(tr.t, os.RemoveAll(tr.a))
			tr.write(filepath.Join(tr.a, "p.spec"), p.Addr)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it takes a while until the waits are long
			tr := newTree(t)
			p := pluginstest.StartTCP(t, nil, volumeDriver)
			r := tr.registry()
			waiting := make(chan struct{})
			appeared := make(chan time.Time, 1)
			go func() {
				<-waiting
				time.Sleep(20 * time.Millisecond)
				appeared <- time.Now()
				appear(tr, p)
			}()
			_, err := r.Get(t.Context(), "p", volumeDriver, plugins.WithProgress(func(_ error, next time.Duration) {
				if next == 4*time.Second {
					close(waiting)
				}
			}))
			must(t, err)
			if d := time.Since(<-appeared); d > 3*time.Second {
				t.Errorf("took %v, which is no better than looking again", d)
			}
		})
	}
}

// 100 callers of one plugin share one attempt, and its failure.
func TestD23CallersShareOneAttempt(t *testing.T) {
	for _, good := range []bool{true, false} {
		t.Run(fmt.Sprintf("good=%v", good), func(t *testing.T) {
			tr := newTree(t)
			p := tr.plugin("p", volumeDriver)
			const callers = 100
			var joined sync.WaitGroup
			joined.Add(callers)
			p.Handle("Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
				joined.Wait()
				if !good {
					w.WriteHeader(500)
				}
				io.WriteString(w, `{"Implements":["VolumeDriver"],"Err":"broken"}`)
			})
			r := tr.registry()
			var failed, same atomic.Int32
			var first atomic.Pointer[plugins.ActivationError]
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					ctx := joining{context.Background(), sync.OnceFunc(joined.Done)}
					_, err := r.Get(ctx, "p", volumeDriver)
					var ae *plugins.ActivationError
					if errors.As(err, &ae) {
						failed.Add(1)
						if first.CompareAndSwap(nil, ae) || first.Load() == ae {
							same.Add(1)
						}
					}
				})
			}
			wg.Wait()
			if n := len(p.Requests("Plugin.Activate")); n != 1 {
				t.Errorf("%d handshakes", n)
			}
			if want := int32(callers); good && failed.Load() != 0 || !good && (failed.Load() != want || same.Load() != want) {
				t.Errorf("%d failed, %d with the same error", failed.Load(), same.Load())
			}
		})
	}
}

func TestCancellingOneWaiterLeavesTheOthers(t *testing.T) {
	tr := newTree(t)
	p := tr.plugin("p", volumeDriver)
	entered, leave := make(chan struct{}), make(chan struct{})
	p.Handle("Plugin.Activate", func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		select {
		case <-leave:
		case <-r.Context().Done():
		}
		io.WriteString(w, `{"Implements":["VolumeDriver"]}`)
	})
	r := tr.registry()
	ctx, cancel := context.WithCancel(t.Context())
	cancelled, stays := make(chan error, 1), make(chan error, 1)
	go func() { _, err := r.Get(ctx, "p", volumeDriver); cancelled <- err }()
	<-entered
	joined := make(chan struct{})
	other := joining{context.Background(), sync.OnceFunc(func() { close(joined) })}
	go func() { _, err := r.Get(other, "p", volumeDriver); stays <- err }()
	<-joined
	cancel()
	select { // before the plugin answers
	case err := <-cancelled:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled waiter: %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the cancelled waiter waits on")
	}
	close(leave)
	if err := <-stays; err != nil {
		t.Errorf("the other waiter: %v", err)
	}
}

func TestAttemptEndsWithItsLastWaiter(t *testing.T) {
	tr := newTree(t)
	p := tr.plugin("p", volumeDriver)
	entered, gone := make(chan struct{}, 2), make(chan struct{}, 2)
	p.Handle("Plugin.Activate", func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
		gone <- struct{}{}
	})
	r := tr.registry()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-entered; cancel() }()
	if _, err := r.Get(ctx, "p", volumeDriver); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	<-gone
	p.Reply("Plugin.Activate", map[string]any{"Implements": []string{volumeDriver}})
	if _, err := r.Get(t.Context(), "p", volumeDriver); err != nil {
		t.Errorf("nothing may be left of the attempt that was given up: %v", err)
	}
}

// While callers fail and succeed in turn, a plugin never becomes active without
// the registry knowing, so its handlers never run twice for one activation.
func TestD24FailureDoesNotRemoveSomebodyElsesAttempt(t *testing.T) {
	tr := newTree(t)
	p := tr.plugin("p", volumeDriver)
	var n, good atomic.Int32
	p.Handle("Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		if n.Add(1) < 5 {
			http.Error(w, "not yet", 500)
			return
		}
		good.Add(1)
		io.WriteString(w, `{"Implements":["VolumeDriver"]}`)
	})
	r := tr.registry()
	var runs atomic.Int32
	must(t, r.Handle(t.Context(), volumeDriver, func(context.Context, string, *plugins.Client) error {
		runs.Add(1)
		return nil
	}))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			for range 50 {
				if _, err := r.Get(context.Background(), "p", volumeDriver); err == nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if good.Load() != 1 || runs.Load() != 1 {
		t.Errorf("%d activations, %d runs of the handler", good.Load(), runs.Load())
	}
}

func TestD25HandleWhileActivating(t *testing.T) {
	tr := newTree(t)
	for i := range 8 {
		tr.plugin(fmt.Sprint("p", i), volumeDriver)
	}
	r := tr.registry()
	done := make(chan struct{})
	go func() {
		defer close(done)
		var wg sync.WaitGroup
		for i := range 64 {
			wg.Go(func() {
				_ = r.Handle(context.Background(), volumeDriver, func(ctx context.Context, _ string, _ *plugins.Client) error {
					_, err := r.Get(ctx, fmt.Sprint("p", (i+1)%8), volumeDriver)
					return err
				})
			})
			wg.Go(func() {
				if _, err := r.Get(context.Background(), fmt.Sprint("p", i%8), volumeDriver); err != nil {
					t.Error(err)
				}
			})
			wg.Go(func() { _, _ = r.GetAll(context.Background(), volumeDriver) })
		}
		wg.Wait()
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		buf := make([]byte, 1<<20)
		t.Fatalf("deadlock\n%s", buf[:runtime.Stack(buf, true)])
	}
}

// A handler looks its own plugin up again, with the context it was given and,
// as Moby's handlers have to, without one.
func TestD26HandlerUsesTheRegistry(t *testing.T) {
	tr := newTree(t)
	tr.plugin("p", "MetricsCollector")
	tr.plugin("q", "MetricsCollector")
	r := tr.registry()
	var runs atomic.Int32
	for _, own := range []bool{true, false} {
		must(t, r.Handle(t.Context(), "MetricsCollector", func(ctx context.Context, name string, _ *plugins.Client) error {
			runs.Add(1)
			if !own {
				ctx = context.Background()
			}
			for _, name := range []string{name, "p", "q"} {
				if _, err := r.Get(ctx, name, "MetricsCollector"); err != nil {
					return err
				}
			}
			_, err := r.GetAll(ctx, "MetricsCollector")
			return err
		}))
	}
	start := time.Now()
	all, err := r.GetAll(t.Context(), "MetricsCollector")
	if err != nil || len(all) != 2 || runs.Load() != 4 {
		t.Errorf("%q, %v, %d runs", names(all), err, runs.Load())
	}
	if d := time.Since(start); d >= 10*time.Second {
		t.Errorf("took %v: one has waited for another until its patience was over", d)
	}
}

func TestD27FailedHandlerIsTriedAgain(t *testing.T) {
	tr := newTree(t)
	tr.plugin("p", "NetworkDriver", volumeDriver)
	r := tr.registry()
	broken := errors.New("capabilities")
	var runs atomic.Int32
	must(t, r.Handle(t.Context(), "NetworkDriver", func(context.Context, string, *plugins.Client) error {
		if runs.Add(1) < 3 {
			return broken
		}
		return nil
	}))
	if _, err := r.Get(t.Context(), "p", volumeDriver); err != nil {
		t.Errorf("another subsystem: %v", err)
	}
	var he *plugins.HandlerError
	if _, err := r.Get(t.Context(), "p", "NetworkDriver"); !errors.Is(err, broken) || !errors.As(err, &he) || he.Name != "p" || he.Subsystem != "NetworkDriver" {
		t.Errorf("error %v", err)
	}
	for range 2 {
		if _, err := r.Get(t.Context(), "p", "NetworkDriver"); err != nil {
			t.Error(err)
		}
	}
	if runs.Load() != 3 {
		t.Errorf("%d runs", runs.Load())
	}
}

func TestD28HandlersRunOnceEach(t *testing.T) {
	tr := newTree(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	p := tr.plugin("p")
	p.Handle("Plugin.Activate", func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		io.WriteString(w, `{"Implements":["b","a","b"]}`)
	})
	r := tr.registry()
	var mu sync.Mutex
	var order []string
	handle := func(subsystem, label string) {
		must(t, r.Handle(t.Context(), subsystem, func(_ context.Context, name string, c *plugins.Client) error {
			mu.Lock()
			defer mu.Unlock()
			if c == nil || name != "p" {
				t.Errorf("handler got %q, %v", name, c)
			}
			order = append(order, label)
			return nil
		}))
	}
	handle("a", "before-a")
	handle("b", "before-b1")
	handle("b", "before-b2")
	handle("c", "never")
	got := make(chan error, 1)
	go func() { _, err := r.Get(context.Background(), "p", "a"); got <- err }()
	<-entered
	handle("a", "during-a")
	close(leave)
	must(t, <-got)
	handle("b", "after-b") // runs at once, and nothing else does
	mu.Lock()
	want := []string{"before-b1", "before-b2", "before-a", "during-a", "after-b"}
	if !slices.Equal(order, want) {
		t.Errorf("ran %q, want %q", order, want)
	}
	mu.Unlock()
	for range 3 {
		_, err := r.Get(t.Context(), "p", "b")
		must(t, err)
	}
	if len(order) != len(want) {
		t.Errorf("ran %q", order)
	}
}

func TestD30ActivationErrorIsReported(t *testing.T) {
	tr := newTree(t)
	p := tr.plugin("p", volumeDriver)
	p.Fail("Plugin.Activate", 500, "broken")
	_, err := tr.registry().Get(t.Context(), "p", volumeDriver)
	if err == nil || errors.Is(err, plugins.ErrNotImplements) || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error %v", err)
	}
}

func TestD33ListsAreCopies(t *testing.T) {
	tr := newTree(t)
	tr.plugin("a", volumeDriver)
	tr.plugin("b", volumeDriver)
	r := tr.registry()
	first, err := r.GetAll(t.Context(), volumeDriver)
	must(t, err)
	clear(first)
	if again, err := r.GetAll(t.Context(), volumeDriver); err != nil || !slices.Equal(names(again), []string{"a", "b"}) {
		t.Errorf("%q, %v", names(again), err)
	}
}

// Start of a host waits for no plugin: making a registry and handling touches
// none.
func TestD34RegistryStartsNothing(t *testing.T) {
	tr := newTree(t)
	tr.silent("slow")
	var dials atomic.Int32
	r := tr.registry(counting(&dials))
	must(t, r.Handle(t.Context(), volumeDriver, func(context.Context, string, *plugins.Client) error { return nil }))
	if _, err := r.Scan(); err != nil {
		t.Error(err)
	}
	if n := dials.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

func TestClosedRegistryRefuses(t *testing.T) {
	tr := newTree(t)
	tr.silent("p")
	r := tr.registry()
	got := make(chan error, 2)
	go func() { _, err := r.Get(context.Background(), "p", volumeDriver); got <- err }()
	go func() { _, err := r.Get(context.Background(), "none", volumeDriver); got <- err }()
	time.Sleep(30 * time.Millisecond)
	must(t, r.Close())
	for range 2 {
		select {
		case err := <-got:
			if !errors.Is(err, plugins.ErrClosed) {
				t.Errorf("error %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("a waiter outlives the registry")
		}
	}
	if _, err := r.Get(t.Context(), "p", volumeDriver); !errors.Is(err, plugins.ErrClosed) {
		t.Errorf("get: %v", err)
	}
	if _, err := r.GetAll(t.Context(), volumeDriver); !errors.Is(err, plugins.ErrClosed) {
		t.Errorf("get all: %v", err)
	}
}

func TestWatchTellsOfEveryChangeSinceItsFirstCall(t *testing.T) {
	tr := newTree(t)
	r := tr.registry()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	found := make(chan []string)
	done := make(chan error, 1)
	watching, stop := context.WithCancel(ctx)
	go func() {
		done <- r.Watch(watching, func() {
			names, _ := r.Scan()
			select {
			case found <- names:
			case <-watching.Done():
			}
		})
	}()
	// Nothing is written until the call before has been seen, so that each has to
	// be told by a call of its own.
	await := func(want ...string) {
		t.Helper()
		for {
			select {
			case names := <-found:
				if slices.Equal(names, want) {
					return
				}
			case <-ctx.Done():
				t.Fatalf("nobody said that there is %q", want)
			}
		}
	}
	await()
	tr.write(filepath.Join(tr.a, "x.spec"), "tcp://h:1")
	await("x")
	tr.write(filepath.Join(tr.b, "y/y.spec"), "tcp://h:1")
	await("x", "y")
	must(t, os.Remove(filepath.Join(tr.a, "x.spec")))
	await("y")
	stop()
	must(t, <-done)
}

// A thousand goroutines get, list, handle and restart plugins. What holds at the
// end: every handler ran once for each activation, and nothing is left behind.
func TestD29ThousandGoroutines(t *testing.T) {
	tr := newTree(t)
	const n = 10
	var running [n]atomic.Pointer[pluginstest.Plugin]
	for i := range n {
		running[i].Store(tr.plugin(fmt.Sprint("p", i), volumeDriver))
	}
	before := runtime.NumGoroutine()
	r, err := plugins.New(plugins.Config{SocketDir: tr.sock, SpecDirs: []string{tr.a}, Client: plugins.ClientOptions{RetryBudget: -1}})
	must(t, err)
	var restart [n]sync.Mutex
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for g := range 1000 {
		wg.Go(func() {
			i := rand.IntN(n)
			name := fmt.Sprint("p", i)
			switch {
			case g%100 == 0:
				restart[i].Lock()
				defer restart[i].Unlock()
				running[i].Load().Close()
				running[i].Store(pluginstest.Start(t, filepath.Join(tr.sock, name+".sock"), volumeDriver))
			case g%50 == 1:
				_ = r.Handle(ctx, volumeDriver, func(_ context.Context, _ string, c *plugins.Client) error {
					_ = c.Address()
					return nil
				})
			case g%10 == 2:
				_, _ = r.GetAll(ctx, volumeDriver) // a plugin may be restarting
			default:
				p, err := r.Get(ctx, name, volumeDriver)
				if err != nil {
					t.Errorf("get: %v", err)
				} else if p.Manifest == nil || p.Client() == nil {
					t.Error("half a plugin")
				}
			}
		})
	}
	wg.Wait()
	must(t, r.Close())
	for i := range n {
		running[i].Load().Close()
	}
	for end := time.Now().Add(20 * time.Second); runtime.NumGoroutine() > before; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines before, %d after\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
		}
	}
}
