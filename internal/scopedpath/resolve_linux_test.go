package scopedpath

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
)

// tree makes a scope on disk: a root filesystem, a propagated mount on /mnt,
// a directory bound on /bound, and a file bound on /file.
func tree(t *testing.T) (Scope, string) {
	t.Helper()
	top, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"root/data/v", "root/mnt", "prop/v/sub", "bound/v", "outside"} {
		if err := os.MkdirAll(filepath.Join(top, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(top, "outside/secret"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"root/abs":        "/data/v",
		"root/up":         "../../outside",
		"root/slash":      "/",
		"prop/slash":      "/",
		"prop/abs":        "/v",
		"prop/up":         "../outside",
		"prop/v/inside":   "../v/sub",
		"prop/v/dangling": "nothing",
		"bound/up":        "v/../../outside/secret",
	} {
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
	}
	return Scope{
		Root: top + "/root", PropagatedMount: "/mnt", PropagatedDir: top + "/prop",
		Binds: []Bind{{"/bound", top + "/bound"}, {"/file", top + "/outside/secret"}},
	}, top
}

func TestResolve(t *testing.T) {
	s, top := tree(t)
	tests := map[string]struct{ in, want string }{
		"empty stays empty":                      {"", ""},
		"the root":                               {"/", "/root"},
		"in the root filesystem":                 {"/data/v", "/root/data/v"},
		"the propagated mount":                   {"/mnt", "/prop"},
		"in the propagated mount":                {"/mnt/v", "/prop/v"},
		"in a bind mount":                        {"/bound/v", "/bound/v"},
		"a bound file":                           {"/file", "/outside/secret"},
		"a link inside is followed":              {"/mnt/v/inside", "/prop/v/sub"},
		"an absolute link in the root stays in":  {"/abs", "/root/data/v"},
		"a link to the root is the plugin's":     {"/slash", "/root"},
		"a link through it stays in":             {"/slash/data/../data/v", "/root/data/v"},
		"dots before a mount":                    {"/mnt/../data/v", "/root/data/v"},
		"relative":                               {"data/v", "/root/data/v"},
		"a trailing slash is not part of a path": {"/mnt/v/", "/prop/v"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			want := tt.want
			if want != "" {
				want = top + want
			}
			got, err := s.Resolve(tt.in)
			if err != nil || got != want {
				t.Errorf("Resolve(%q) = %q, %v; want %q", tt.in, got, err, want)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	s, _ := tree(t)
	tests := map[string]struct {
		in      string
		missing bool
	}{
		"what is not there":                     {"/mnt/none", true},
		"a link to nothing":                     {"/mnt/v/dangling", true},
		"a link out of the propagated mount":    {"/mnt/up", false},
		"a link to the host's root":             {"/mnt/slash", false},
		"a path through such a link":            {"/mnt/slash/etc", false},
		"an absolute link in a propagated dir":  {"/mnt/abs", false},
		"a link out of a bind mount":            {"/bound/up", false},
		"a link up from the root stays in root": {"/up", true},
		"a name like the propagated mount's":    {"/mntx", true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := s.Resolve(tt.in)
			if err == nil {
				t.Fatalf("Resolve(%q) = %q", tt.in, got)
			}
			if missing := errors.Is(err, fs.ErrNotExist); missing != tt.missing {
				t.Errorf("Resolve(%q): %v; is missing: %v, want %v", tt.in, err, missing, tt.missing)
			}
		})
	}
}

// A runtime without mounts puts a link in the place of the propagated
// directory; that one is the host's own and is followed.
func TestResolveFollowsALinkThatIsTheBase(t *testing.T) {
	s, top := tree(t)
	if err := os.Symlink(top+"/prop", top+"/alias"); err != nil {
		t.Fatal(err)
	}
	s.PropagatedDir = top + "/alias"
	got, err := s.Resolve("/mnt/v/inside")
	if want := top + "/alias/v/sub"; err != nil || got != want {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
}

func TestResolveDoesNotOpenWhatBlocks(t *testing.T) {
	s, top := tree(t)
	if err := unix.Mkfifo(top+"/prop/fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Resolve("/mnt/fifo"); err != nil || got != top+"/prop/fifo" {
		t.Errorf("got %q, %v", got, err)
	}
}

func FuzzResolveNeverLeavesItsBase(f *testing.F) {
	for _, seed := range []string{"../../outside", "/", "/mnt/../..", "v/../../..", "."} {
		f.Add(seed, "link")
	}
	f.Add("../outside", "link/secret")
	f.Fuzz(func(t *testing.T, to, p string) {
		s, top := tree(t)
		if os.Symlink(to, top+"/prop/link") != nil || os.Symlink(to, top+"/root/link") != nil {
			t.Skip("not a link")
		}
		for _, prefix := range []string{"/mnt/", "/"} {
			got, err := s.Resolve(prefix + p)
			if err != nil {
				continue
			}
			real, err := filepath.EvalSymlinks(got)
			if err != nil {
				t.Fatalf("Resolve(%q) = %q: %v", prefix+p, got, err)
			}
			in := real == top+"/outside/secret" && strings.HasPrefix(filepath.Clean(prefix+p), "/file")
			for _, base := range []string{"/root", "/prop", "/bound"} {
				in = in || real == top+base || strings.HasPrefix(real, top+base+"/")
			}
			if !in {
				t.Errorf("Resolve(%q) with a link to %q = %q, which is %q", prefix+p, to, got, real)
			}
		}
	})
}

func TestResolveCrossesMounts(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS)
	s, top := tree(t)
	if err := unix.Mount("tmpfs", top+"/prop/v", "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(top+"/prop/v", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(top+"/prop/v/inside", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../outside", top+"/prop/v/out"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"v", "v/inside"} {
		if got, err := s.Resolve("/mnt/" + p); err != nil || got != top+"/prop/"+p {
			t.Errorf("Resolve(%q) = %q, %v", p, got, err)
		}
	}
	if got, err := s.Resolve("/mnt/v/out"); err == nil {
		t.Errorf("a link out of what is mounted there leads to %q", got)
	}
}
