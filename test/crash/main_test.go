package crash

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	// Not testutil.Main: what is tested is in other processes, and the file
	// system of the power cuts ends its goroutines when the kernel lets it.
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// thorough says that all points are walked in all ways, not a sample.
func thorough() bool { return os.Getenv("OUTLET_CRASH") == "all" }

// built is what all tests of the package use, made once.
var built struct {
	once sync.Once
	err  error
	dir  string
}

// program builds the daemon with failpoints.
func program(t testing.TB) string {
	t.Helper()
	need(t)
	built.once.Do(func() {
		built.dir, built.err = os.MkdirTemp("", "oc") //nolint:usetesting // outlives the first test
		if built.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-tags", "failpoints", "-o", filepath.Join(built.dir, "outlet"), "./cmd/outlet")
		cmd.Dir = testutil.RepoRoot(t)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build: %w\n%s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "outlet")
}

// archive packs the plugin that the walks use.
func archive(t testing.TB) string {
	t.Helper()
	return daemontest.Tar(t, daemontest.Dirvol(t))
}

// copyTree copies a directory with all that the kernel tells of what is in it.
func copyTree(t testing.TB, from, to string) {
	t.Helper()
	if out, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, strings.TrimSpace(string(out)))
	}
}

// need skips what this machine cannot do.
func need(t testing.TB) {
	t.Helper()
	testutil.Need(t, testutil.Root, testutil.MountNS, testutil.Cgroups, testutil.Runc, testutil.Go)
}
