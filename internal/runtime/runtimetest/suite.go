// Package runtimetest holds what every runtime must do as a suite of tests, and
// makes the bundles for it. It is for tests only.
package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/testutil" //nolint:depguard // this package is for tests only
)

// limit is how long anything may take; nothing comes near it unless it hangs.
const limit = time.Minute

// fixture is a runtime under test.
type fixture struct {
	runtime.Runtime
	factory Factory
	state   string
	reaper  *reap.Reaper
}

// Run runs the suite.
func Run(t *testing.T, f Factory) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *fixture)
	}{
		{"info names it", testInfo},
		{"exit statuses are told", testExit},
		{"the process gets what the spec says", testSpec},
		{"a process that cannot be started says why and leaves nothing", testStartFails},
		{"a start whose caller went away leaves nothing", testStartCanceled},
		{"signals reach the main process", testSignal},
		{"kill ends everything", testKill},
		{"delete ends what the main process left behind", testDeleteLeftovers},
		{"delete refuses what runs and may be repeated", testDelete},
		{"a leftover of the same id is replaced", testReplace},
		{"attach finds what another process started", testAttach},
		{"attach tells how a stranger's child ends", testAttachStranger},
		{"attach tells of what ended meanwhile", testAttachEnded},
		{"attach knows nothing of the unknown", testAttachUnknown},
		{"output goes on after the starter's death", testOutput},
		{"a starter killed at any moment leaves nothing that purge does not end", testHalfStarted},
		{"purge of what is unknown succeeds", testPurgeUnknown},
		{"list names what exists", testList},
		{"many start at once", testMany},
		{"exec runs beside the main process", testExec},
		{"exec is killed with its caller", testExecCanceled},
		{"exec does not wait for what its process leaves behind", testExecLeaves},
		{"exec with a terminal", testExecTerminal},
		{"exec that fails says why", testExecFails},
		{"stats count", testStats},
		{"orphans of containers do not stay zombies", testOrphans},
		{"the socket is where the caller expects it", testSocket},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, newFixture(t, f)) })
	}
}

func newFixture(tb testing.TB, f Factory) *fixture {
	tb.Helper()
	r, err := reap.New(reap.Config{Subreaper: true, Grace: 300 * time.Millisecond})
	must(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	state := filepath.Join(testutil.TempDir(tb), "state")
	rt, err := f(state, r)
	must(tb, err)
	tb.Cleanup(func() {
		ids, err := rt.List(context.Background())
		if err != nil || len(ids) != 0 {
			tb.Errorf("left behind: %v, %v", ids, err)
		}
		if r.Subreaper() {
			// What a killed starter left becomes ours and is reaped in a while.
			testutil.Eventually(tb, limit, noChildren)
		}
		if c, ok := rt.(interface{ Close() error }); ok {
			if err := c.Close(); err != nil {
				tb.Error(err)
			}
		}
		cancel()
		if err := errors.Join(<-ran, r.Close()); err != nil {
			tb.Error(err)
		}
	})
	return &fixture{Runtime: rt, factory: f, state: state, reaper: r}
}

func noChildren() error {
	all, err := reap.Processes()
	for pid, st := range all {
		if st.Parent == os.Getpid() {
			return errors.Join(err, fmt.Errorf("process %d (%c) is left", pid, st.State))
		}
	}
	return err
}

// start starts the box and removes it with the test.
func (f *fixture) start(t testing.TB, b *Box) runtime.Task {
	t.Helper()
	task, err := f.Start(t.Context(), b.Bundle)
	must(t, err)
	f.cleanUp(t, b)
	return task
}

// cleanUp removes the box at the end of the test and proves that nothing is
// left of it.
func (f *fixture) cleanUp(t testing.TB, b *Box) {
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		if err := f.Purge(ctx, b.ID); err != nil {
			t.Errorf("purge: %v", err)
		}
		f.wantNothing(t, b)
	})
}

func (f *fixture) wantNothing(t testing.TB, b *Box) {
	t.Helper()
	if left := b.Processes(t); len(left) > 0 {
		t.Errorf("processes left: %v", left)
	}
	if dirs := cgroupsNamed(t, b.ID); len(dirs) > 0 {
		t.Errorf("cgroups left: %v", dirs)
	}
	entries, err := os.ReadDir(f.state)
	must(t, err)
	for _, e := range entries {
		if strings.Contains(e.Name(), b.ID) {
			t.Errorf("left in the state directory: %s", e.Name())
		}
	}
}

func cgroupsNamed(t testing.TB, id string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/outlet-test/", "/sys/fs/cgroup/*/outlet-test/"} {
		dirs, err := filepath.Glob(pattern + id)
		must(t, err)
		found = append(found, dirs...)
	}
	return found
}

func wantDone(t testing.TB, task runtime.Task) outlet.Exit {
	t.Helper()
	select {
	case <-task.Done():
	case <-time.After(limit):
		t.Fatal("the process does not end")
	}
	exit := task.Exit()
	if exit.At.IsZero() {
		t.Error("the time of the exit is missing")
	}
	return exit
}

func wantRunning(t testing.TB, task runtime.Task) {
	t.Helper()
	select {
	case <-task.Done():
		t.Fatalf("the process has ended: %+v", task.Exit())
	default:
	}
}

func wantClass(t testing.TB, err, class error) {
	t.Helper()
	if !errors.Is(err, class) {
		t.Fatalf("error is %v, want one of the class %q", err, class)
	}
}

// wantReady waits until the program says what the tests expect.
func (b *Box) wantReady(t testing.TB) { b.wantOutput(t, "ready") }

func (b *Box) wantOutput(t testing.TB, text string) {
	t.Helper()
	testutil.Eventually(t, limit, func() error {
		if out := b.Output(t); !strings.Contains(out, text) {
			return fmt.Errorf("no %q in %q, stderr %q", text, out, b.Errors(t))
		}
		return nil
	})
}

func (b *Box) wantProcesses(t testing.TB, n int) {
	t.Helper()
	testutil.Eventually(t, limit, func() error {
		if got := len(b.Processes(t)); got != n {
			return fmt.Errorf("%d processes, want %d", got, n)
		}
		return nil
	})
}

func testInfo(t *testing.T, f *fixture) {
	for range 2 {
		info, err := f.Info(t.Context())
		must(t, err)
		if info.Name == "" {
			t.Errorf("no name in %+v", info)
		}
	}
}

func testExit(t *testing.T, f *fixture) {
	for _, test := range []struct {
		name string
		args []string
		want outlet.Exit
	}{
		{"success", []string{"exit", "0"}, outlet.Exit{}},
		{"failure", []string{"exit", "7"}, outlet.Exit{Code: 7}},
		{"the largest status", []string{"exit", "255"}, outlet.Exit{Code: 255}},
		{"by SIGKILL from outside", nil, outlet.Exit{Code: 137, Signal: 9}},
		{"by a handler", []string{"term"}, outlet.Exit{Code: 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := test.args
			if args == nil {
				args = []string{"ignore"}
			}
			b := NewBox(t, BoxOptions{Args: args})
			task := f.start(t, b)
			switch {
			case test.args == nil:
				b.wantReady(t)
				must(t, task.Kill(t.Context()))
			case args[0] == "term":
				b.wantReady(t)
				must(t, task.Signal(t.Context(), syscall.SIGTERM))
			}
			got := wantDone(t, task)
			got.At = time.Time{}
			if got != test.want {
				t.Errorf("exit is %+v, want %+v", got, test.want)
			}
			must(t, task.Delete(t.Context()))
		})
	}
}

func testSpec(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"show", "two words"}, Change: func(s *specs.Spec) {
		s.Process.Cwd = "/tmp"
		if mapped(t, 8) {
			s.Process.User = specs.User{UID: 7, GID: 8}
		}
	}})
	must(t, os.Chmod(b.Dir, 0o755)) // the process is not root
	task := f.start(t, b)
	if exit := wantDone(t, task); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	out := b.Output(t)
	who := "uid 0 gid 0"
	if mapped(t, 8) {
		who = "uid 7 gid 8"
	}
	for _, want := range []string{"args [two words " + b.Mark + "]", who, "cwd /tmp", "env PATH=/bin", "env FROM=spec", "stdin 0 EOF"} {
		if !strings.Contains(out, want+"\n") {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if got := b.Errors(t); got != "to stderr\n" {
		t.Errorf("stderr is %q", got)
	}
	must(t, task.Delete(t.Context()))
}

// mapped reports whether this user namespace has the users up to id.
func mapped(t *testing.T, id int) bool {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/uid_map")
	must(t, err)
	var first, outside, count int
	_, err = fmt.Sscan(string(raw), &first, &outside, &count)
	must(t, err)
	return first == 0 && count > id
}

func testStartFails(t *testing.T, f *fixture) {
	for _, test := range []struct {
		name, path, content string
		mode                os.FileMode
		want                string
		class               error
	}{
		{"no such file", "", "", 0, "no such file", errdefs.ErrInvalidArgument},
		{"wrong architecture", "/wrong", "\x7fELF\x02\x01\x01\x00\x00\x00", 0o755, "exec format error", errdefs.ErrInvalidArgument},
		{"not executable", "/text", "text", 0o644, "permission denied", errdefs.ErrPermissionDenied},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := NewBox(t, BoxOptions{Change: func(s *specs.Spec) {
				s.Process.Args[0] = "/missing"
				if test.path != "" {
					s.Process.Args[0] = test.path
				}
			}})
			if test.path != "" {
				must(t, os.WriteFile(filepath.Join(b.Rootfs, test.path), []byte(test.content), test.mode))
			}
			text := ""
			task, err := f.Start(t.Context(), b.Bundle)
			if err == nil {
				// runc leaves the last step to the process itself, which says
				// why and ends.
				if exit := wantDone(t, task); exit.Code <= 0 {
					t.Errorf("exit is %+v", exit)
				}
				text = b.Errors(t)
				must(t, task.Delete(t.Context()))
			} else {
				wantClass(t, err, test.class)
				text = err.Error()
			}
			if !strings.Contains(text, test.want) {
				t.Errorf("%q does not say %q", text, test.want)
			}
			f.wantNothing(t, b)
			ids, err := f.List(t.Context())
			if err != nil || len(ids) != 0 {
				t.Errorf("list is %v, %v", ids, err)
			}
		})
	}
}

func testStartCanceled(t *testing.T, f *fixture) {
	for i := range 6 {
		b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*5*time.Millisecond)
		task, err := f.Start(ctx, b.Bundle)
		cancel()
		if err == nil { // it was faster
			must(t, task.Kill(t.Context()))
			must(t, task.Delete(t.Context()))
		} else if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		f.wantNothing(t, b)
	}
}

func testSignal(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"hup"}})
	task := f.start(t, b)
	b.wantReady(t)
	must(t, task.Signal(t.Context(), syscall.SIGHUP))
	b.wantOutput(t, "hup")
	wantRunning(t, task)
	must(t, task.Signal(t.Context(), syscall.SIGTERM))
	if exit := wantDone(t, task); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	wantClass(t, task.Signal(t.Context(), syscall.SIGTERM), errdefs.ErrNotFound)
	must(t, task.Delete(t.Context()))
}

func testKill(t *testing.T, f *fixture) {
	for _, test := range []struct {
		name    string
		args    []string
		pidHost bool
		want    int // processes, 0: not told
	}{
		{"that ignores signals", []string{"ignore"}, false, 1},
		{"with children", []string{"fork", "5"}, false, 6},
		{"with orphans", []string{"doublefork", "5"}, false, 6},
		{"with children and the host's pids", []string{"fork", "5"}, true, 6},
		{"with orphans and the host's pids", []string{"doublefork", "5"}, true, 6},
		{"that forks without end", []string{"bomb"}, true, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := NewBox(t, BoxOptions{Args: test.args, PIDHost: test.pidHost})
			task := f.start(t, b)
			b.wantReady(t)
			if test.want > 0 {
				b.wantProcesses(t, test.want)
			} else {
				testutil.Eventually(t, limit, func() error {
					if n := len(b.Processes(t)); n < 20 {
						return fmt.Errorf("%d processes", n)
					}
					return nil
				})
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			must(t, task.Kill(ctx))
			if left := b.Processes(t); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			if exit := wantDone(t, task); exit.Signal != 9 || exit.Code != 137 {
				t.Errorf("exit is %+v", exit)
			}
			must(t, task.Kill(ctx)) // again
			must(t, task.Delete(ctx))
			f.wantNothing(t, b)
		})
	}
}

func testDeleteLeftovers(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"abandon", "3"}, PIDHost: true})
	task := f.start(t, b)
	if exit := wantDone(t, task); exit.Code != 0 {
		t.Errorf("exit is %+v", exit)
	}
	b.wantProcesses(t, 3)
	must(t, task.Delete(t.Context()))
	f.wantNothing(t, b)
}

func testDelete(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
	task := f.start(t, b)
	wantClass(t, task.Delete(t.Context()), errdefs.ErrConflict)
	wantRunning(t, task)
	must(t, task.Kill(t.Context()))
	must(t, task.Delete(t.Context()))
	must(t, task.Delete(t.Context()))
	must(t, task.Kill(t.Context()))
	f.wantNothing(t, b)
}

func testReplace(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"term"}})
	old := f.start(t, b)
	b.wantReady(t)
	task, err := f.Start(t.Context(), b.Bundle)
	must(t, err)
	if exit := wantDone(t, old); exit.Signal != 9 {
		t.Errorf("the old one's exit is %+v", exit)
	}
	wantRunning(t, task)
	b.wantProcesses(t, 1)
	// The end of the old one was not noted as that of the new one.
	again, err := f.Attach(t.Context(), b.Bundle)
	must(t, err)
	wantRunning(t, again)
}

func testAttach(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"term"}})
	f.cleanUp(t, b)
	startElsewhere(t, f.state, b, "started")()
	b.wantReady(t)
	task, err := f.Attach(t.Context(), b.Bundle)
	must(t, err)
	wantRunning(t, task)
	if task.PID() <= 0 {
		t.Errorf("pid is %d", task.PID())
	}
	must(t, task.Signal(t.Context(), syscall.SIGTERM))
	// This process is the subreaper above the starter.
	if exit := wantDone(t, task); exit.Code != 5 {
		t.Errorf("exit is %+v, want 5", exit)
	}
	// Whoever comes after the exit learns it too.
	again, err := f.Attach(t.Context(), b.Bundle)
	must(t, err)
	if exit := wantDone(t, again); exit.Code != 5 {
		t.Errorf("exit is %+v, want 5", exit)
	}
	must(t, again.Delete(t.Context()))
	f.wantNothing(t, b)
}

// In life nobody of ours is above a daemon that was killed: its plugins become
// the children of the host's first process.
func testAttachStranger(t *testing.T, f *fixture) {
	must(t, f.reaper.Close()) // gives up being a subreaper
	r, err := reap.New(reap.Config{})
	must(t, err)
	defer func() { must(t, r.Close()) }()
	rt, err := f.factory(f.state, r)
	must(t, err)
	b := NewBox(t, BoxOptions{Args: []string{"term"}})
	startElsewhere(t, f.state, b, "started")()
	b.wantReady(t)
	task, err := rt.Attach(t.Context(), b.Bundle)
	must(t, err)
	wantRunning(t, task)
	must(t, task.Signal(t.Context(), syscall.SIGTERM))
	// -1: before Linux 6.15, if the first process is faster than we.
	if exit := wantDone(t, task); exit.Code != 5 && exit.Code != -1 {
		t.Errorf("exit is %+v, want 5", exit)
	}
	must(t, task.Delete(t.Context()))
	f.wantNothing(t, b)
}

func testAttachEnded(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"term"}})
	f.cleanUp(t, b)
	kill := startElsewhere(t, f.state, b, "started")
	b.wantReady(t)
	pid := b.Processes(t)
	kill()
	task, err := f.Attach(t.Context(), b.Bundle)
	must(t, err)
	must(t, syscall.Kill(task.PID(), syscall.SIGKILL))
	b.wantProcesses(t, 0)
	late, err := f.Attach(t.Context(), b.Bundle)
	must(t, err)
	wantDone(t, late)
	if pid[0] != fmt.Sprint(late.PID()) && task.PID() != late.PID() {
		t.Errorf("pid is %d, was %v", late.PID(), pid)
	}
	wantClass(t, late.Signal(t.Context(), syscall.SIGTERM), errdefs.ErrNotFound)
	must(t, late.Delete(t.Context()))
}

func testAttachUnknown(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"exit", "0"}})
	_, err := f.Attach(t.Context(), b.Bundle)
	wantClass(t, err, errdefs.ErrNotFound)
	b.ID = "../" + b.ID
	for _, call := range []func() error{
		func() error { _, err := f.Attach(t.Context(), b.Bundle); return err },
		func() error { _, err := f.Start(t.Context(), b.Bundle); return err },
		func() error { return f.Purge(t.Context(), b.ID) },
	} {
		wantClass(t, call(), errdefs.ErrInvalidArgument)
	}
}

func testOutput(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"count"}})
	f.cleanUp(t, b)
	kill := startElsewhere(t, f.state, b, "started")
	b.wantOutput(t, "\n20\n")
	kill()
	n := strings.Count(b.Output(t), "\n")
	b.wantOutput(t, fmt.Sprintf("\n%d\n", n+50))
	task, err := f.Attach(t.Context(), b.Bundle)
	must(t, err)
	must(t, task.Signal(t.Context(), syscall.SIGTERM))
	wantDone(t, task)
	for i, line := range strings.Split(strings.TrimSpace(b.Output(t)), "\n") {
		if line != fmt.Sprint(i) {
			t.Fatalf("line %d is %q", i, line)
		}
	}
}

func testHalfStarted(t *testing.T, f *fixture) {
	for i := range 16 {
		b := NewBox(t, BoxOptions{Args: []string{"doublefork", "2"}, PIDHost: i%2 == 1})
		kill := startElsewhere(t, f.state, b, "starting")
		<-time.After(time.Duration(i) * 2500 * time.Microsecond)
		kill()
		task, err := f.Attach(t.Context(), b.Bundle)
		if err == nil {
			must(t, task.Kill(t.Context()))
			must(t, task.Delete(t.Context()))
		} else {
			wantClass(t, err, errdefs.ErrNotFound)
			must(t, f.Purge(t.Context(), b.ID))
		}
		testutil.Eventually(t, limit, func() error {
			// runc's own helpers carry no mark and die with their parent.
			if left := b.Processes(t); len(left) > 0 {
				return fmt.Errorf("left: %v", left)
			}
			return nil
		})
		f.wantNothing(t, b)
	}
}

func testPurgeUnknown(t *testing.T, f *fixture) {
	must(t, f.Purge(t.Context(), "unknown"))
}

func testList(t *testing.T, f *fixture) {
	var want []string
	for range 3 {
		b := NewBox(t, BoxOptions{Args: []string{"ignore"}})
		f.start(t, b)
		want = append(want, b.ID)
	}
	slices.Sort(want)
	got, err := f.List(t.Context())
	must(t, err)
	if !slices.Equal(got, want) {
		t.Errorf("list is %v, want %v", got, want)
	}
}

func testMany(t *testing.T, f *fixture) {
	boxes := make([]*Box, 20)
	for i := range boxes {
		boxes[i] = NewBox(t, BoxOptions{Args: []string{"exit", fmt.Sprint(i)}})
	}
	var wg sync.WaitGroup
	for i, b := range boxes {
		wg.Go(func() {
			task, err := f.Start(t.Context(), b.Bundle)
			if err != nil {
				t.Error(err)
				return
			}
			select {
			case <-task.Done():
			case <-time.After(limit):
				t.Errorf("%d does not end", i)
			}
			if exit := task.Exit(); exit.Code != i {
				t.Errorf("exit of %d is %+v", i, exit)
			}
			if err := task.Delete(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, b := range boxes {
		f.wantNothing(t, b)
	}
}

func testStats(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"fork", "3"}})
	task := f.start(t, b)
	b.wantReady(t)
	b.wantProcesses(t, 4)
	s, err := task.Stats(t.Context())
	must(t, err)
	if s.At.IsZero() || s.CPU < -1 || (s.MemoryBytes >= 0 && s.MemoryBytes < 1<<16) || (s.PIDs >= 0 && s.PIDs < 4) {
		t.Errorf("stats are %+v", s)
	}
	must(t, task.Kill(t.Context()))
	_, err = task.Stats(t.Context())
	wantClass(t, err, errdefs.ErrConflict)
}

func testOrphans(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"doublefork", "3"}, PIDHost: true})
	task := f.start(t, b)
	b.wantReady(t)
	b.wantProcesses(t, 4)
	var orphans []int
	for _, p := range b.Processes(t) {
		var pid int
		_, err := fmt.Sscan(p, &pid)
		must(t, err)
		if pid != task.PID() {
			orphans = append(orphans, pid)
			must(t, syscall.Kill(pid, syscall.SIGKILL))
		}
	}
	testutil.Eventually(t, limit, func() error {
		for _, pid := range orphans {
			if st, err := reap.ReadStat(pid); err == nil {
				return fmt.Errorf("%d is still there: %c", pid, st.State)
			}
		}
		return nil
	})
	wantRunning(t, task)
}

func testSocket(t *testing.T, f *fixture) {
	b := NewBox(t, BoxOptions{Args: []string{"listen", "/run/docker/plugins/test.sock"}})
	task := f.start(t, b)
	wantAccepts(t, b)
	must(t, task.Kill(t.Context()))
	must(t, task.Delete(t.Context()))
	fi, err := os.Lstat(b.Owned[0])
	must(t, err)
	if !fi.IsDir() {
		t.Errorf("%s is left as %v", b.Owned[0], fi.Mode())
	}
}
