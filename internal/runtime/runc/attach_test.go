package runc

import (
	"os"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
)

// Getting ready for cgroups must leave this process where it is.
func TestGettingReadyForCgroupsMovesNothing(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Cgroups)
	cgroup := func() string {
		t.Helper()
		raw, err := os.ReadFile("/proc/self/cgroup")
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	a := newAttaching()
	if a.mount == "" {
		t.Fatal("no hierarchy was found")
	}
	before := cgroup()
	first := a.begin()
	second := a.begin() // while the first may be under way
	first()
	second()
	a.begin()()
	if after := cgroup(); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestWithoutCgroupsThereIsNothingToGetReady(t *testing.T) {
	var a attaching
	a.begin()()
}
