package chroot

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/runtimetest"
	"github.com/outletd/outlet/internal/testutil"
)

func factory(state string, r *reap.Reaper) (runtime.Runtime, error) {
	return New(Config{StateDir: state, Reaper: r})
}

func TestMain(m *testing.M) { os.Exit(runtimetest.Main(m, factory)) }

func TestChrootPassesTheSuite(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Chroot)
	runtimetest.Run(t, factory)
}

// fewEnv says that the test binary runs without the capabilities to mount, make
// namespaces or device nodes.
const fewEnv = "OUTLET_CHROOT_FEW_CAPABILITIES"

// What the chroot runtime is for: root in a container that allows nothing.
func TestChrootPassesTheSuiteWithFewCapabilities(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Chroot)
	if os.Getenv(fewEnv) != "" {
		runtimetest.Run(t, factory)
		return
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skipf("needs setpriv of util-linux: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(setpriv, "--bounding-set", "-sys_admin,-sys_ptrace,-mknod,-sys_resource,-net_admin",
		self, "-test.run=^TestChrootPassesTheSuiteWithFewCapabilities$", "-test.v")
	cmd.Env = append(os.Environ(), fewEnv+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestChrootPassesTheSuiteWithFewCapabilities ") {
		t.Fatalf("%v\n%s", err, out)
	}
}
