package reap

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

const limit = time.Minute

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

func newReaper(t *testing.T, cfg Config) *Reaper {
	t.Helper()
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- r.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ran, r.Close()); err != nil {
			t.Error(err)
		}
	})
	return r
}

// spawn starts a shell command that nobody waits for yet.
func spawn(t *testing.T, script string) Identity {
	t.Helper()
	p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", script}, &os.ProcAttr{
		Files: []*os.File{nil, nil, os.Stderr},
	})
	if err != nil {
		t.Fatal(err)
	}
	id, err := Identify(p.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Release(); err != nil {
		t.Fatal(err)
	}
	return id
}

func wantExit(t *testing.T, p *Process, code, signal int) {
	t.Helper()
	select {
	case <-p.Done():
	case <-time.After(limit):
		t.Fatal("the process does not end")
	}
	if exit := p.Exit(); exit.Code != code || exit.Signal != signal || exit.At.IsZero() {
		t.Errorf("exit is %+v, want code %d, signal %d", exit, code, signal)
	}
}

func TestWatchTellsHowAChildEnds(t *testing.T) {
	r := newReaper(t, Config{})
	for _, test := range []struct {
		name, script string
		code, signal int
	}{
		{"at once", "exit 0", 0, 0},
		{"later", "sleep 0.05; exit 42", 42, 0},
		{"by a signal", "kill -TERM $$", 143, 15},
		{"by SIGKILL", "kill -KILL $$", 137, 9},
		{"with a core dumped or not", "ulimit -c 0; kill -ABRT $$", 134, 6},
	} {
		t.Run(test.name, func(t *testing.T) {
			called := make(chan outlet.Exit, 2)
			p, err := r.Watch(spawn(t, test.script), func(e *outlet.Exit) { called <- *e })
			if err != nil {
				t.Fatal(err)
			}
			wantExit(t, p, test.code, test.signal)
			if e := <-called; e.Code != test.code || len(called) != 0 {
				t.Errorf("called with %+v, and %d times more", e, len(called))
			}
			if err := p.Signal(syscall.SIGTERM); !errdefs.IsNotFound(err) {
				t.Errorf("signal after the end: %v", err)
			}
		})
	}
}

func TestWatchTellsHowAZombieEnded(t *testing.T) {
	r := newReaper(t, Config{})
	id := spawn(t, "exit 9")
	testutil.Eventually(t, limit, func() error {
		st, err := ReadStat(id.PID)
		if err == nil && st.State != 'Z' {
			err = fmt.Errorf("state %c", st.State)
		}
		return err
	})
	p, err := r.Watch(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	wantExit(t, p, 9, 0)
	if _, err := r.Watch(id, nil); !errdefs.IsNotFound(err) {
		t.Errorf("watching what is gone: %v", err)
	}
}

// grandchild starts a shell that, once it is told to go on, runs script, and that
// is waited for by another shell.
func grandchild(t *testing.T, script, parent string) (id Identity, goOn, wait func()) {
	t.Helper()
	// It waits for a line, so that it is there for as long as it is looked at. What
	// is started in the background has no input but what it is given.
	cmd := exec.Command("/bin/sh", "-c", "exec 3<&0; sh -c 'read -r _; "+script+"' <&3 & echo $!; "+parent)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, err := out.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatal(err)
	}
	if id, err = Identify(pid); err != nil {
		t.Fatal(err)
	}
	goOn = func() {
		if _, err := io.WriteString(in, "\n"); err != nil {
			t.Error(err)
		}
	}
	wait = func() {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	return id, goOn, wait
}

func TestWatchTellsHowAStrangerEnds(t *testing.T) {
	testutil.Need(t, testutil.Root)
	r := newReaper(t, Config{})
	t.Run("that its parent leaves a zombie", func(t *testing.T) {
		id, goOn, wait := grandchild(t, "exit 6", "exec sleep 3 >/dev/null")
		p, err := r.Watch(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		goOn()
		wantExit(t, p, 6, 0)
		wait()
	})
	t.Run("that its parent reaps", func(t *testing.T) {
		id, goOn, wait := grandchild(t, "exit 6", "wait; exit 0")
		p, err := r.Watch(id, nil)
		if err != nil {
			t.Fatal(err)
		}
		goOn()
		select {
		case <-p.Done():
		case <-time.After(limit):
			t.Fatal("the process does not end")
		}
		// Before Linux 6.15 the parent may be faster than we.
		if exit := p.Exit(); exit.Code != 6 && (exit.Code != -1 || keepsStatus(t)) {
			t.Errorf("exit is %+v", exit)
		}
		wait()
	})
}

// keepsStatus reports whether this kernel keeps exit statuses in pidfds.
func keepsStatus(t *testing.T) bool {
	t.Helper()
	id := spawn(t, "exit 3")
	f, err := openPidfd(id.PID)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(id.PID, &ws, 0, nil); err != nil {
		t.Fatal(err)
	}
	status, ok := keptStatus(int(f.Fd()))
	if ok && status.ExitStatus() != 3 {
		t.Errorf("kept status is %#x", status)
	}
	return ok
}

func TestWatchRefusesAnotherProcessWithThePid(t *testing.T) {
	r := newReaper(t, Config{})
	id := spawn(t, "exec sleep 100")
	p, err := r.Watch(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, other := range map[string]Identity{
		"start": {PID: id.PID, Start: id.Start - 1, Boot: id.Boot},
		"boot":  {PID: id.PID, Start: id.Start, Boot: "other"},
		"pid":   {PID: 1 << 30, Start: id.Start, Boot: id.Boot},
		"none":  {},
	} {
		if _, err := r.Watch(other, nil); !errdefs.IsNotFound(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	wantExit(t, p, 137, 9)
}

func TestOrphansAreReapedAndOthersAreNot(t *testing.T) {
	r := newReaper(t, Config{Subreaper: true, Grace: 150 * time.Millisecond})
	// Claimed, and waited for much later than the grace.
	claimed := exec.Command("/bin/sh", "-c", "exit 4")
	release := r.Hold()
	if err := claimed.Start(); err != nil {
		t.Fatal(err)
	}
	unclaim := r.Claim(claimed.Process.Pid)
	release()

	var orphans []Identity
	for range 5 {
		release := r.Hold() // or who waits for its parent may be too late
		id, goOn, wait := grandchild(t, "sleep 0.1", "exit 0")
		goOn()
		wait()
		release()
		orphans = append(orphans, id)
	}
	testutil.Eventually(t, limit, func() error {
		for _, id := range orphans {
			if err := id.Check(); !errdefs.IsNotFound(err) {
				return fmt.Errorf("orphan %d: %w", id.PID, err)
			}
		}
		return nil
	})
	var exit *exec.ExitError
	if err := claimed.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 4 {
		t.Errorf("the claimed child's status was taken: %v", err)
	}
	unclaim()
}

func TestHoldKeepsOrphans(t *testing.T) {
	r := newReaper(t, Config{Subreaper: true, Grace: 30 * time.Millisecond})
	release := r.Hold()
	id := spawn(t, "exit 8")
	<-time.After(300 * time.Millisecond)
	p, err := r.Watch(id, nil)
	release()
	if err != nil {
		t.Fatalf("the child was reaped under a hold: %v", err)
	}
	wantExit(t, p, 8, 0)
}

// Commands that nobody registered keep their exit status, as long as somebody
// waits for them.
func TestCommandsKeepTheirStatus(t *testing.T) {
	// Half of it is what the machine may take to let somebody go on who waits.
	newReaper(t, Config{Subreaper: true, Grace: 4 * time.Second})
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			err := exec.Command("/bin/sh", "-c", fmt.Sprintf("sleep 0.0%d; exit %d", i%10, i+1)).Run()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != i+1 {
				t.Errorf("%d: %v", i, err)
			}
		})
		// An orphan that ends soon.
		if err := exec.Command("/bin/sh", "-c", "sh -c 'sleep 0.02' & exit 0").Run(); err != nil {
			t.Error(err)
		}
	}
	wg.Wait()
	testutil.Eventually(t, limit, func() error {
		pids, err := children()
		if err == nil && len(pids) > 0 {
			err = fmt.Errorf("children: %v", pids)
		}
		return err
	})
}

func TestCloseEndsWatching(t *testing.T) {
	var log bytes.Buffer // read once the reaper is closed
	r, err := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	id := spawn(t, "exec sleep 100")
	p, err := r.Watch(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("closing is no error: %s", &log)
	}
	select {
	case <-p.Done():
		t.Error("the process lives and is said to have ended")
	default:
	}
	if _, err := r.Watch(id, nil); !errdefs.IsUnavailable(err) {
		t.Errorf("watch after close: %v", err)
	}
	// Another one takes over.
	again := newReaper(t, Config{})
	q, err := again.Watch(id, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wantExit(t, q, 137, 9)
}

func TestWatchingCostsNoThreads(t *testing.T) {
	r := newReaper(t, Config{})
	threads := func() int {
		entries, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	before := threads()
	var all []*Process
	for range 100 {
		p, err := r.Watch(spawn(t, "exec sleep 100"), nil)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if after := threads(); after > before+50 {
		t.Errorf("%d threads for 100 processes, %d before", after, before)
	}
	for _, p := range all {
		if err := p.Signal(syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	for _, p := range all {
		wantExit(t, p, 137, 9)
	}
}

func TestAllWhoWatchLearnTheSame(t *testing.T) {
	r := newReaper(t, Config{})
	id := spawn(t, "exec sleep 100")
	var calls atomic.Int32
	call := func(*outlet.Exit) { calls.Add(1) }
	var all []*Process
	for range 3 {
		p, err := r.Watch(id, call)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	if err := all[0].Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	for _, p := range all {
		wantExit(t, p, 137, 9)
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestFinishKillsWhenItsContextEnds(t *testing.T) {
	r := newReaper(t, Config{})
	p, err := r.Watch(spawn(t, "exec sleep 100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := p.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	wantExit(t, p, 137, 9)
	if code, err := p.Finish(t.Context()); code != 137 || err != nil {
		t.Errorf("%d, %v", code, err)
	}
}

func TestChildrenByParentFindsTheSame(t *testing.T) {
	r := newReaper(t, Config{})
	p, err := r.Watch(spawn(t, "exec sleep 100"), nil)
	if err != nil {
		t.Fatal(err)
	}
	a, errA := children()
	b, errB := childrenByParent()
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if len(a) != 1 || len(b) != 1 || a[0] != b[0] || a[0] != p.Identity().PID {
		t.Errorf("children %v and %v, want %d", a, b, p.Identity().PID)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	wantExit(t, p, 137, 9)
}

func statLine(name, state string) string {
	return "77 (" + name + ") " + state + " 5 77 70 0 -1 4194304 0 0 0 0 1 2 3 4 20 0 1 0 123456 1000 25 " +
		strings.Repeat("0 ", 27) + "256\n"
}

func TestParseStat(t *testing.T) {
	want := Stat{
		State: 'Z', Parent: 5, Session: 70, Start: 123456,
		CPU: 100 * time.Millisecond, Memory: 25 * int64(os.Getpagesize()), Status: 256,
	}
	for _, name := range []string{"sh", "a b", ") R 1 (", "\n", ""} {
		got, err := parseStat([]byte(statLine(name, "Z")))
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v, want %+v", name, got, err, want)
		}
	}
	for _, bad := range []string{"", "77", "77 (sh", "77 (sh) Z 5 77", statLine("sh", "ZZ"), strings.Replace(statLine("x", "Z"), "123456", "-1", 1)} {
		if _, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	f.Add([]byte(statLine("sh", "R")))
	f.Add([]byte("1 () S"))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := parseStat(b)
		if err == nil && st.State == 0 {
			t.Errorf("%q: %+v", b, st)
		}
	})
}

func TestMembersAreNotSignalledByTheirPidAlone(t *testing.T) {
	for name, tt := range map[string]struct {
		older uint64 // by so much than what has the pid
		ended bool
	}{
		"the process that was found":  {0, true},
		"one that had the pid before": {1, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReaper(t, Config{})
			id := spawn(t, "exec sleep 100")
			pid := id.PID
			if !tt.ended {
				p, err := r.Watch(id, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = p.Signal(unix.SIGKILL); <-p.Done() }()
			}
			var m Members
			if err := m.Signal(pid, id.Start-tt.older, unix.SIGKILL); err != nil {
				t.Error(err)
			}
			if tt.ended {
				testutil.Eventually(t, limit, func() error {
					if st, err := ReadStat(pid); err == nil && st.State != 'Z' {
						return fmt.Errorf("it goes on: %+v", st)
					}
					return nil
				})
			} else if st, err := ReadStat(pid); err != nil || st.State == 'Z' {
				t.Errorf("another process was killed: %+v, %v", st, err)
			}
			m.Release(r)
			if _, err := ReadStat(pid); (err != nil) != tt.ended {
				t.Errorf("after it was let go: %v", err)
			}
		})
	}
}
