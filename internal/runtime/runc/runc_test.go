package runc

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/runtimetest"
	"github.com/outletd/outlet/internal/testutil"
)

func factory(path string) runtimetest.Factory {
	return func(state string, r *reap.Reaper) (runtime.Runtime, error) {
		return New(Config{Path: path, Root: state, Reaper: r})
	}
}

// runcEnv names the runc program to the starters of the suite.
const runcEnv = "OUTLET_RUNC_UNDER_TEST"

func TestMain(m *testing.M) {
	os.Exit(runtimetest.Main(m, factory(os.Getenv(runcEnv))))
}

// programs are the runc programs to test with: that of this repository, and the
// distribution's if there is one.
func programs(t *testing.T) []string {
	paths := []string{testutil.Program(t, testutil.Runc)}
	for _, name := range []string{"runc", "/usr/sbin/runc"} {
		if p, err := exec.LookPath(name); err == nil && p != paths[0] {
			return append(paths, p)
		}
	}
	return paths
}

func TestRuncPassesTheSuite(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS, testutil.Cgroups, testutil.Runc)
	for _, path := range programs(t) {
		out, err := exec.Command(path, "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		version, _, _ := strings.Cut(string(out), "\n")
		t.Run(version, func(t *testing.T) {
			t.Setenv(runcEnv, path)
			runtimetest.Run(t, factory(path))
		})
	}
}

// unsharedEnv says that the test binary runs in a user namespace of its own.
const unsharedEnv = "OUTLET_RUNC_UNSHARED"

// The suite in a user namespace, as an ordinary user's daemon has it, with a pid
// namespace whose first process is the test: once as root, who may still make
// cgroups, and once as nobody, who may not.
func TestRuncPassesTheSuiteInAUserNamespace(t *testing.T) {
	testutil.Need(t, testutil.UserNS)
	if os.Getenv(unsharedEnv) != "" {
		runtimetest.Run(t, factory(os.Getenv(runcEnv)))
		return
	}
	testutil.Need(t, testutil.Runc)
	t.Run("as we are", func(t *testing.T) { unshared(t, nil) })
	t.Run("as nobody", func(t *testing.T) {
		testutil.Need(t, testutil.Root)
		unshared(t, &syscall.Credential{Uid: 65534, Gid: 65534})
	})
}

// unshared runs the test again in namespaces of its own.
func unshared(t *testing.T, who *syscall.Credential) {
	// Copies that everybody may read.
	dir := testutil.TempDir(t)
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	share := func(name, from string) string {
		raw, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(dir, name)
		if err := os.WriteFile(to, raw, 0o755); err != nil {
			t.Fatal(err)
		}
		return to
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program := share("program", testutil.Build(t, "./internal/runtime/runtimetest/program"))
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--mount-proc",
		share("test", self), "-test.run=^TestRuncPassesTheSuiteInAUserNamespace$", "-test.v")
	cmd.Env = append(os.Environ(), unsharedEnv+"=1", runtimetest.ProgramEnv+"="+program, "TMPDIR=/tmp",
		runcEnv+"="+share("runc", testutil.Program(t, testutil.Runc)))
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestRuncPassesTheSuiteInAUserNamespace ") {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestFindTakesWhatIsNamed(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "my-runc")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir)
	for _, explicit := range []string{path, "my-runc"} {
		if got, err := Find(explicit); err != nil || got != path {
			t.Errorf("Find(%q) is %q, %v", explicit, got, err)
		}
	}
	if _, err := Find("other"); !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "other") {
		t.Errorf("error is %v", err)
	}
}

func TestFindLooksBesideThenInLibexecThenOnPath(t *testing.T) {
	root := t.TempDir()
	bin := filepath.Join(root, "bin")
	places := []string{
		filepath.Join(root, "path", "runc"),
		filepath.Join(root, "libexec", "outlet", "runc"),
		filepath.Join(bin, "runc"),
	}
	t.Setenv("PATH", filepath.Join(root, "path"))
	_, err := find(bin)
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("error is %v", err)
	}
	for _, want := range places {
		if err := os.MkdirAll(filepath.Dir(want), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(want, nil, 0o755); err != nil {
			t.Fatal(err)
		}
		if got, err := find(bin); err != nil || got != want {
			t.Errorf("find is %q, %v, want %q", got, err, want)
		}
	}
}
