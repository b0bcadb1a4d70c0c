package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable/failpoint"
	"github.com/outletd/outlet/internal/testutil"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// pending is a root on which an upgrade is pending: the daemon ended while the
// new version, which waits at a gate until the test opens it, was starting.
type pending struct {
	root, id string
	ref      string // of the old version, and the plugin's name
	want     string // the version that is to run in the end
	flags    []string
}

// newPending makes one. args are those of the new version's program.
func newPending(t *testing.T, args []string, want string, flags ...string) pending {
	t.Helper()
	need(t)
	program, err := os.ReadFile(testutil.Build(t, "./test/interop/plugin"))
	if err != nil {
		t.Fatal(err)
	}
	reg := rt.Start(t, rt.Options{})
	listen := []string{"-listen", "/run/docker/plugins/p.sock"}
	for version, args := range map[string][]string{"old": listen, "new": append([]string{"-wait", "/data/gate"}, args...)} {
		reg.Put(t, "foo/bar", version, rt.Plugin{
			Config: rt.Config(map[string]any{
				"Description": version, "Entrypoint": append([]string{"/plugin"}, args...), "PropagatedMount": "/data",
			}),
			Layers: []rt.Layer{rt.GzipLayer(t,
				rt.File{Name: "plugin", Content: string(program), Mode: 0o755}, rt.File{Name: "version", Content: version})},
		})
	}
	p := pending{ref: reg.Host + "/foo/bar:old", want: want, flags: append([]string{"--start-timeout", "1m"}, flags...)}
	w := newWorld(t, "")
	w.flags = p.flags
	w.start(false)
	if _, err := w.c.Pull(t.Context(), p.ref, outlet.PullOptions{}, nil); err != nil {
		t.Fatal(err)
	}
	if err := w.c.Enable(t.Context(), p.ref, outlet.EnableOptions{}); err != nil {
		t.Fatal(err)
	}
	q, err := w.c.Inspect(t.Context(), p.ref)
	if err != nil {
		t.Fatal(err)
	}
	p.id, p.root = q.ID, w.root()
	if err := unix.Mkfifo(p.gate(w), 0o600); err != nil {
		t.Fatal(err)
	}
	upgraded := make(chan error, 1)
	go func() {
		upgraded <- w.c.Upgrade(t.Context(), p.ref, reg.Host+"/foo/bar:new", outlet.UpgradeOptions{Running: true}, nil)
	}()
	if err := p.waits(w); err != nil {
		t.Fatal(err)
	}
	w.kill()
	if err := <-upgraded; err == nil {
		t.Fatal("the upgrade succeeded")
	}
	w.powerless()
	return p
}

func (p pending) gate(w *world) string {
	return filepath.Join(w.root(), "plugins", p.id, "propagated-mount", "gate")
}

// waits waits until the new version waits at the gate.
func (p pending) waits(w *world) error {
	return eventually(patience, func() error {
		q, err := w.c.Inspect(context.Background(), p.ref)
		if err == nil && (q.Config.Description != "new" || q.Status.State != outlet.StateStarting || q.Status.PID == 0) {
			err = fmt.Errorf("it is %q, %+v", q.Config.Description, q.Status)
		}
		return err
	})
}

// open starts a daemon on a copy of the root, opens the gate when the new version
// waits at it and order is given, and waits until the ordered point is reached or
// all were passed: as many as there were before, or, if there are fewer this time,
// those of an upgrade that has come to its end.
func (p pending) open(t *testing.T, order failpoint.Order, points int) (w *world, st failpoint.State, err error) {
	w = newWorld(t, p.root)
	w.flags = p.flags
	if err := w.begin(true, failpoint.Order{}); err != nil {
		return w, st, err
	}
	if err := w.ready(); err != nil {
		return w, st, err
	}
	if err := p.waits(w); err != nil {
		return w, st, err
	}
	if _, err := w.settle(); err != nil {
		return w, st, err
	}
	w.order(order)
	// It stays open: who waits there again goes on at once.
	gate, err := os.OpenFile(p.gate(w), os.O_RDWR, 0)
	if err != nil {
		return w, st, err
	}
	t.Cleanup(func() { gate.Close() })
	began := time.Now()
	err = eventually(patience, func() error {
		select {
		case <-w.dead:
			return nil
		default:
		}
		st, err := failpoint.Send(w.path("c"), failpoint.Order{Do: "look"})
		if err == nil && !st.Reached && len(st.Points) < points {
			err = fmt.Errorf("%d of %d points were passed", len(st.Points), points)
			if time.Since(began) > 5*time.Second && p.hasCome(w) == nil {
				err = nil
			}
		}
		return err
	})
	if err != nil {
		return w, st, err
	}
	st, err = w.settle()
	return w, st, err
}

// comes waits until the plugin runs as the version it is to be, and nothing of
// another is kept.
func (p pending) comes(w *world) error {
	return eventually(patience, func() error { return p.hasCome(w) })
}

func (p pending) hasCome(w *world) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	q, err := w.c.Inspect(ctx, p.ref)
	if err != nil {
		return err
	}
	if q.Config.Description != p.want || !q.Enabled || q.Status.State != outlet.StateRunning {
		return fmt.Errorf("it is %q, %+v", q.Config.Description, q.Status)
	}
	if (q.Status.UpgradeUndone != "") != (p.want == "old") {
		return fmt.Errorf("undone: %q", q.Status.UpgradeUndone)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/version", q.Status.PID))
	if err != nil || string(b) != p.want {
		return fmt.Errorf("version %q runs, %w", b, err)
	}
	usage, err := w.c.DiskUsage(ctx)
	if err != nil || usage.Layers.Count != 1 {
		return fmt.Errorf("%d layers are kept, %w", usage.Layers.Count, err)
	}
	return w.clean()
}

// raze removes the plugin, and all of it must go.
func (p pending) raze(w *world) error {
	if err := w.c.Remove(context.Background(), p.ref, true); err != nil {
		return err
	}
	if _, err := w.c.Prune(context.Background()); err != nil {
		return err
	}
	return eventually(patience, func() error {
		for _, err := range w.leftovers() {
			return err
		}
		return nil
	})
}

// endings are what comes of new versions behind the gate.
var endings = map[string]struct {
	args []string
	want string
}{
	"it is ready":       {[]string{"-listen", "/run/docker/plugins/p.sock"}, "new"},
	"it is rolled back": {[]string{"-exit", "3"}, "old"},
}

// visitAll walks over the points that a pending upgrade passes once its gate is
// open.
func (p pending) visitAll(t *testing.T, visits func([]failpoint.Point) []visit, visitOne func(w *world, st failpoint.State, err error) error) {
	t.Helper()
	w, _, err := p.open(t, failpoint.Order{Do: "reset"}, 1)
	if err == nil {
		err = p.comes(w)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, w.lastLog())
	}
	st, err := w.settle()
	if err != nil {
		t.Fatal(err)
	}
	w.end()
	began := time.Now()
	l := visits(st.Points)
	walk(t, l, func(v visit) error {
		w, st, err := p.open(t, v.order, len(st.Points))
		defer w.end()
		if err := visitOne(w, st, err); err != nil {
			return fmt.Errorf("%w\n%s", err, w.lastLog())
		}
		return nil
	})
	t.Logf("%d points, visited %d times in %v", len(st.Points), len(l), time.Since(began).Round(time.Millisecond))
}

func TestAPendingUpgradeComesToItsEndWhereverTheDaemonIsKilled(t *testing.T) {
	for name, ending := range endings {
		for _, live := range []string{"true", "false"} {
			t.Run(name+", live-restore "+live, func(t *testing.T) {
				p := newPending(t, ending.args, ending.want, "--live-restore="+live)
				p.visitAll(t, kills, func(w *world, _ failpoint.State, err error) error {
					if err != nil && !errors.Is(err, errDead) {
						return err
					}
					w.kill()
					if err := w.begin(false, failpoint.Order{}); err != nil {
						return err
					}
					if err := w.ready(); err != nil {
						return err
					}
					if err := p.comes(w); err != nil {
						return err
					}
					return p.raze(w)
				})
			})
		}
	}
}

func TestAPendingUpgradeComesToItsEndWhateverFails(t *testing.T) {
	for name, ending := range endings {
		t.Run(name, func(t *testing.T) {
			p := newPending(t, ending.args, ending.want)
			var kept atomic.Bool
			p.visitAll(t, failures, func(w *world, st failpoint.State, err error) error {
				if err != nil {
					return err
				}
				// The same daemon overcomes it, without anybody's help.
				if err := p.comes(w); err != nil {
					return fmt.Errorf("%w\nreached: %v", err, st.Reached)
				}
				if strings.Contains(w.log.String(), "the version before it is still kept") {
					kept.Store(true)
				}
				return p.raze(w)
			})
			if ending.want == "new" && !kept.Load() {
				t.Error("no visit kept the daemon from writing down that the new version is ready")
			}
		})
	}
}
