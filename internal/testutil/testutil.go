package testutil

import (
	"bytes"
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const modulePath = "github.com/outletd/outlet"

// TempDir makes a directory with a path so short (at most 32 bytes) that socket
// paths below it stay within the kernel's 108, and removes it when the test
// ends. Mounts that are left below it then are an error of the test; they are
// unmounted, so that removing cannot reach what they show.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp(tempBase(), "ot") //nolint:usetesting // its paths are too long
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left := unmountAll(t, dir); len(left) > 0 {
			t.Errorf("mounts were left: %s", strings.Join(left, ", "))
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// tempBase is the temporary directory of the system, or /tmp where its path is
// too long to hold sockets.
func tempBase() string {
	if dir := os.TempDir(); len(dir) <= 20 {
		return dir
	}
	return "/tmp"
}

// Mounts returns the mount points at and below dir in this process's mount
// namespace, in the order in which they were mounted.
func Mounts(dir string) ([]string, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	return mountsBelow(string(info), dir), nil
}

func mountsBelow(info, dir string) []string {
	var found []string
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			continue
		}
		point := unescapeMount(fields[4])
		if point == dir || strings.HasPrefix(point, dir+"/") {
			found = append(found, point)
		}
	}
	return found
}

// unescapeMount undoes the octal escapes (space, tab, newline, backslash) of a
// field of mountinfo.
func unescapeMount(field string) string {
	if !strings.Contains(field, `\`) {
		return field
	}
	var b strings.Builder
	for i := 0; i < len(field); i++ {
		if field[i] == '\\' && i+3 < len(field) {
			if n, err := strconv.ParseUint(field[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(field[i])
	}
	return b.String()
}

// unmountAll detaches every mount below dir, the latest first, and returns them.
func unmountAll(t testing.TB, dir string) []string {
	t.Helper()
	points, err := Mounts(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for i := len(points) - 1; i >= 0; i-- {
		if err := unix.Unmount(points[i], unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			t.Errorf("unmount %s: %v", points[i], err)
		}
	}
	return points
}

// Eventually calls check until it returns nil, and fails the test with its last
// error when limit has passed. It checks once more then: on a busy machine the
// limit may pass while nothing of this process runs.
func Eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for over := false; ; {
		err := check()
		if err == nil {
			return
		}
		if over {
			t.Fatalf("not within %v: %v", limit, err)
		}
		select {
		case <-deadline.C:
			over = true
		case <-tick.C:
		}
	}
}

// RepoRoot returns the directory of the repository that the test runs in.
func RepoRoot(t testing.TB) string {
	t.Helper()
	root, err := repoRoot()
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func repoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && bytes.HasPrefix(mod, []byte("module "+modulePath+"\n")) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("the test does not run inside the repository")
		}
		dir = parent
	}
}

// builds remembers which programs this process has built already. Building is
// what makes tests slow, and every test of a process wants the same program.
var builds struct { //nolint:gochecknoglobals // per test process on purpose
	sync.Mutex
	done map[string]string
}

// Build builds the Go program of a package of this module (a path relative to
// the root of the repository, such as "./cmd/outlet") as a static binary, once
// for each test process, and returns its path. It needs [Go].
func Build(t testing.TB, pkg string) string {
	t.Helper()
	Need(t, Go)
	builds.Lock()
	defer builds.Unlock()
	if path, ok := builds.done[pkg]; ok {
		return path
	}
	root := RepoRoot(t)
	name := strings.ReplaceAll(strings.Trim(strings.TrimPrefix(pkg, "."), "/"), "/", "-")
	dir := filepath.Join(root, ".cache", "test")
	keep := os.MkdirAll(dir, 0o755) == nil && unix.Access(dir, unix.W_OK) == nil
	if !keep { // the clone belongs to someone else
		dir = TempDir(t)
	}
	path := filepath.Join(dir, name)
	// Another test process may run the program already: replace it whole.
	tmp := path + "." + strconv.Itoa(os.Getpid())
	cmd := exec.Command("go", "build", "-trimpath", "-o", tmp, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", pkg, err, out)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
	if keep {
		if builds.done == nil {
			builds.done = make(map[string]string)
		}
		builds.done[pkg] = path
	}
	return path
}

// IsStatic says whether an ELF program runs without a dynamic loader.
func IsStatic(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return false, nil
		}
	}
	return true, nil
}
