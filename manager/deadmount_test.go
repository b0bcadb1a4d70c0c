package manager

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
)

// mountDead mounts a FUSE file system that nobody serves any more.
func mountDead(t *testing.T, dir string) {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd) // which is what ends the file system
	opts := fmt.Sprintf("fd=%d,rootmode=40000,user_id=%d,group_id=%d", fd, os.Getuid(), os.Getgid())
	if err := unix.Mount("dead", dir, "fuse", 0, opts); err != nil {
		t.Fatal(err)
	}
}

func TestWhatNobodyServesAnyMoreIsUnmounted(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS, testutil.Fuse)
	for name, c := range map[string]struct {
		dead, live []string // below the propagated mount
	}{
		"nothing":                     {nil, nil},
		"the propagated mount itself": {[]string{"."}, nil},
		"below it":                    {[]string{"volumes/a", "volumes/b"}, nil},
		"beside what lives":           {[]string{"volumes/a"}, []string{"volumes/b"}},
		"on what lives":               {[]string{"volumes/a/b"}, []string{"volumes/a"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testutil.TempDir(t)
			u := &unit{paths: paths{plugin: dir, propagated: filepath.Join(dir, "propagated-mount")}}
			if err := u.unmountDead(); err != nil {
				t.Errorf("where there is no propagated mount: %v", err)
			}
			if err := os.Mkdir(u.paths.propagated, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := u.unmountDead(); err != nil {
				t.Errorf("where nothing is mounted: %v", err)
			}
			if err := unix.Mount(u.paths.propagated, u.paths.propagated, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
			want := []string{u.paths.propagated}
			defer func() {
				for _, m := range slices.Backward(want) {
					if err := unix.Unmount(m, 0); err != nil {
						t.Errorf("unmount %s: %v", m, err)
					}
				}
			}()
			for _, live := range c.live {
				m := filepath.Join(u.paths.propagated, live)
				if err := os.MkdirAll(m, 0o755); err != nil {
					t.Fatal(err)
				}
				if err := unix.Mount("live", m, "tmpfs", 0, "size=1m"); err != nil {
					t.Fatal(err)
				}
				want = append(want, m)
			}
			for _, dead := range c.dead {
				m := filepath.Join(u.paths.propagated, dead)
				if err := os.MkdirAll(m, 0o755); err != nil {
					t.Fatal(err)
				}
				mountDead(t, m)
			}
			if err := u.unmountDead(); err != nil {
				t.Error(err)
			}
			got, err := testutil.Mounts(dir)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, want) {
				t.Errorf("left mounted are %v, not %v", got, want)
			}
		})
	}
}
