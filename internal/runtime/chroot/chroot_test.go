package chroot

import (
	"os"
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

func TestChroot(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Chroot)
	runtimetest.Run(t, factory)
}
