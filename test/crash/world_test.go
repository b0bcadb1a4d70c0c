package crash

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/durable/failpoint"
	"github.com/outletd/outlet/internal/testutil"
)

// world is a root with all that belongs to it, and perhaps a daemon.
type world struct {
	t       testing.TB
	program string
	dir     string
	parent  string // cgroup of its plugins
	flags   []string
	env     []string
	c       *client.Client
	id      string // of the daemon, if that was told
	named   string // the plugin's name, if it is not the usual one
	prunes  bool   // see operation

	cmd  *exec.Cmd
	dead chan struct{} // closed when the daemon has ended
	log  *syncBuffer
}

// syncBuffer is a buffer that may be read while a process writes to it.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// newWorld makes a world whose root is a copy of the directory from; "" is an
// empty one.
func newWorld(t testing.TB, from string) *world {
	t.Helper()
	w := &world{t: t, program: program(t), log: new(syncBuffer)}
	w.dir = tempDir(t)
	w.parent = "outlet-crash-" + filepath.Base(w.dir)
	if err := os.Mkdir(w.path("v1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if from != "" {
		copyTree(t, from, w.root())
	}
	c, err := client.New(client.Options{Host: "unix://" + w.path("s")})
	if err != nil {
		t.Fatal(err)
	}
	w.c = c
	t.Cleanup(w.end)
	return w
}

// tempDir is a directory in memory, where there is some: it is what the walks
// spend their time with.
func tempDir(t testing.TB) string {
	t.Helper()
	var st unix.Statfs_t
	if err := unix.Statfs("/dev/shm", &st); err == nil && st.Bavail*uint64(st.Bsize) > 1<<30 {
		if t, ok := t.(interface{ Setenv(k, v string) }); ok && os.Getenv("TMPDIR") != "/dev/shm" {
			t.Setenv("TMPDIR", "/dev/shm")
		}
	}
	return testutil.TempDir(t)
}

func (w *world) path(elem ...string) string {
	return filepath.Join(append([]string{w.dir}, elem...)...)
}

func (w *world) root() string { return w.path("lib") }

// begin starts the daemon. With failpoints it takes orders, and begins with the
// first one if it does something.
func (w *world) begin(failpoints bool, first failpoint.Order) error {
	args := append([]string{
		"daemon", "--config-file", "/dev/null", "--data-root", w.root(), "--exec-root", w.path("run"),
		"-H", "unix://" + w.path("s"), "--runtime", testutil.Program(w.t, testutil.Runc),
		"--cgroup-parent", w.parent, "--log-level", "debug",
		// What other tests run as v1 plugins of the host is not this daemon's.
		"--v1-socket-dir", w.path("v1"), "--v1-spec-dir", w.path("v1"),
	}, w.flags...)
	cmd := exec.Command(w.program, args...)
	cmd.Stderr = w.log
	cmd.Env = append(os.Environ(), w.env...)
	if failpoints {
		cmd.Env = append(cmd.Env, failpoint.EnvControl+"="+w.path("c"))
		if first.Do != "" {
			raw, err := json.Marshal(first)
			if err != nil {
				return err
			}
			cmd.Env = append(cmd.Env, failpoint.EnvOrder+"="+string(raw))
		}
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	dead := make(chan struct{})
	go func() { _ = cmd.Wait(); close(dead) }() // how it ended is no matter; awaited by end
	w.cmd, w.dead = cmd, dead
	return nil
}

// identity asks the daemon for its id.
func (w *world) identity(ctx context.Context) (string, error) {
	h := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", w.path("s"))
		},
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://daemon/info", nil)
	if err != nil {
		return "", err
	}
	resp, err := h.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var info struct{ ID string }
	err = json.NewDecoder(resp.Body).Decode(&info)
	return info.ID, err
}

var errDead = errors.New("the daemon has ended")

// ready waits until the daemon answers.
func (w *world) ready() error {
	var last error
	for end := time.Now().Add(patience); time.Now().Before(end); {
		select {
		case <-w.dead:
			return errDead
		default:
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		_, last = w.c.Ping(ctx)
		cancel()
		if last == nil {
			return nil
		}
		time.Sleep(3 * time.Millisecond)
	}
	return fmt.Errorf("the daemon does not answer: %w", last)
}

// start starts the daemon and waits until it answers.
func (w *world) start(failpoints bool) {
	w.t.Helper()
	err := w.begin(failpoints, failpoint.Order{})
	if err == nil {
		err = w.ready()
	}
	if err != nil {
		w.t.Fatalf("%v\n%s", err, w.lastLog())
	}
}

// mutant says whether the daemon is one.
func (w *world) mutant() bool {
	return slices.ContainsFunc(w.env, func(v string) bool { return strings.HasPrefix(v, failpoint.EnvMutant+"=") })
}

// kill ends the daemon if it still runs.
func (w *world) kill() {
	if w.cmd == nil {
		return
	}
	_ = w.cmd.Process.Kill() // it may have ended
	<-w.dead
	w.cmd = nil
	_ = w.c.Close() // never fails
}

// stop ends the daemon in order.
func (w *world) stop() {
	w.t.Helper()
	if err := w.cmd.Process.Signal(unix.SIGTERM); err != nil {
		w.t.Error(err)
	}
	select {
	case <-w.dead:
	case <-time.After(patience):
		w.t.Errorf("the daemon does not end\n%s", w.lastLog())
	}
	w.kill()
}

func (w *world) order(o failpoint.Order) failpoint.State {
	w.t.Helper()
	st, err := failpoint.Send(w.path("c"), o)
	if err != nil {
		w.t.Fatalf("order %+v: %v\n%s", o, err, w.lastLog())
	}
	return st
}

func (w *world) lastLog() string {
	s := w.log.String()
	return s[max(0, len(s)-6000):]
}

// end leaves nothing behind, whatever state the world is in.
func (w *world) end() {
	w.kill()
	if w.t.Failed() {
		w.t.Logf("the daemon's log:\n%s", w.lastLog())
	}
	w.powerless()
}

// powerless does what the end of a machine does: no process, mount or cgroup of
// the world is left, and nothing of the exec root.
func (w *world) powerless() {
	for range 100 {
		pids := w.processes()
		if len(pids) == 0 {
			break
		}
		for _, pid := range pids {
			_ = unix.Kill(pid, unix.SIGKILL) // it may have ended
		}
		time.Sleep(5 * time.Millisecond)
	}
	for range 10 {
		points, err := testutil.Mounts(w.dir)
		if err != nil || len(points) == 0 {
			break
		}
		for i := len(points) - 1; i >= 0; i-- {
			_ = unix.Unmount(points[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW) // looked at again
		}
	}
	for _, dir := range w.cgroups() {
		_ = os.Remove(dir) // deepest first
	}
	if err := os.RemoveAll(w.path("run")); err != nil {
		w.t.Error(err)
	}
}

// cgroups are the cgroups of the world's plugins, the deepest first, and the one
// above them.
func (w *world) cgroups() []string {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		w.t.Error(err)
	}
	var dirs []string
	for _, m := range mounts {
		top := filepath.Join(m.Mountpoint, w.parent)
		entries, err := os.ReadDir(top)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				dirs = append(dirs, filepath.Join(top, e.Name()))
			}
		}
		dirs = append(dirs, top)
	}
	return dirs
}

// processes are those of the world's plugins and what starts them.
func (w *world) processes() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		w.t.Error(err)
	}
	var pids []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscanf(e.Name(), "%d", &pid); err != nil {
			continue
		}
		if w.cmd != nil && pid == w.cmd.Process.Pid || pid == os.Getpid() {
			continue
		}
		groups, err := os.ReadFile(filepath.Join("/proc", e.Name(), "cgroup"))
		if err != nil {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline")) // it has just ended
		if strings.Contains(string(groups), "/"+w.parent+"/") || strings.Contains(string(args), w.dir+"/") {
			pids = append(pids, pid)
		}
	}
	return pids
}
