package runc

import (
	"os"
	"testing"

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

func TestRunc(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS, testutil.Cgroups, testutil.Runc)
	path := testutil.Program(t, testutil.Runc)
	t.Setenv(runcEnv, path)
	runtimetest.Run(t, factory(path))
}
