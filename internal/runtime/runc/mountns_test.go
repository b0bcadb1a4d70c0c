package runc

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/outletd/outlet/internal/runtime/contained"
)

// The number of a mount namespace that is gone may be another's: what has the
// number and nothing else of the container is not the container's.
func TestANamespaceThatNobodyHeldIsNotEnough(t *testing.T) {
	ns, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	bundle := t.TempDir()
	if err := os.Mkdir(filepath.Join(bundle, "rootfs"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, root string
		held       bool
		want       bool
	}{
		{name: "another root", root: "rootfs"},
		{name: "the same root", root: "/", want: true},
		{name: "a root that is gone", root: "gone"},
		{name: "held meanwhile", root: "rootfs", held: true, want: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			spec := `{"ociVersion":"1.2.0","process":{"args":["x"],"cwd":"/"},"root":{"path":"` + tt.root + `"}}`
			if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(spec), 0o600); err != nil {
				t.Fatal(err)
			}
			c := &container{note: note{Note: contained.Note{Bundle: bundle}, MountNS: ns}, mountNS: new(heldMountNS)}
			if tt.held {
				f, err := os.Open("/proc/self/ns/mnt")
				if err != nil {
					t.Fatal(err)
				}
				c.mountNS.hold(f)
				defer c.mountNS.release()
			}
			pids, err := c.members()
			if err != nil {
				t.Fatal(err)
			}
			if got := slices.Contains(pids, os.Getpid()); got != tt.want {
				t.Errorf("this process is a member: %v", got)
			}
		})
	}
}

// A pid namespace ends all by itself: nothing is looked for by numbers then.
func TestAContainerWithPIDsOfItsOwnNeedsNoMountNS(t *testing.T) {
	ns, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	c := &container{note: note{OwnPIDs: true, MountNS: ns}, mountNS: new(heldMountNS)}
	if pids, err := c.members(); err != nil || len(pids) > 0 {
		t.Errorf("members are %v, %v", pids, err)
	}
}
