package scopedpath

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"
)

func TestHost(t *testing.T) {
	scope := Scope{
		Root: "/o/rootfs", PropagatedMount: "/mnt/volumes/", PropagatedDir: "/o/propagated",
		Binds: []Bind{
			{Destination: "/state", Source: "/var/lib/state"},
			{Destination: "/state/deep", Source: "/srv/deep"},
			{Destination: "/late/early", Source: "/hidden"},
			{Destination: "/late", Source: "/srv/late"},
			{Destination: "/mnt/volumes/inner", Source: "/srv/inner"},
			{Destination: "/host", Source: "/"},
			{Destination: "/twice", Source: "/first"},
			{Destination: "/twice", Source: "/second"},
		},
	}
	tests := map[string]struct{ in, want string }{
		"the propagated mount itself":                {"/mnt/volumes", "/o/propagated"},
		"below the propagated mount":                 {"/mnt/volumes/a/b", "/o/propagated/a/b"},
		"a name that begins like it is another one":  {"/mnt/volumesx/a", "/o/rootfs/mnt/volumesx/a"},
		"dots are resolved before the mount is":      {"/mnt/volumes/../y", "/o/rootfs/mnt/y"},
		"dots do not leave the root":                 {"/mnt/volumes/../../../../etc", "/o/rootfs/etc"},
		"dots may lead back":                         {"/mnt/volumes/../volumes/x", "/o/propagated/x"},
		"doubled and trailing slashes do not count":  {"//mnt//volumes//a/", "/o/propagated/a"},
		"a bind mount shows its source":              {"/state", "/var/lib/state"},
		"below a bind mount":                         {"/state/x", "/var/lib/state/x"},
		"the longer destination wins":                {"/state/deep/x", "/srv/deep/x"},
		"a later mount above hides an earlier one":   {"/late/early/x", "/srv/late/early/x"},
		"a bind mount in the propagated mount wins":  {"/mnt/volumes/inner/x", "/srv/inner/x"},
		"the later of two on one place wins":         {"/twice/x", "/second/x"},
		"the host's root bound somewhere":            {"/host/etc", "/etc"},
		"a bind mount's name as a prefix is nothing": {"/statement", "/o/rootfs/statement"},
		"anything else is in the root filesystem":    {"/data/x", "/o/rootfs/data/x"},
		"the root":                         {"/", "/o/rootfs"},
		"relative paths begin at the root": {"data/x", "/o/rootfs/data/x"},
		"relative dots":                    {"../../etc", "/o/rootfs/etc"},
		"empty stays empty":                {"", ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := scope.Host(tt.in)
			if err != nil || got != tt.want {
				t.Errorf("Host(%q) = %q, %v; want %q", tt.in, got, err, tt.want)
			}
		})
	}
}

func TestHostWithoutPropagatedMount(t *testing.T) {
	for _, s := range []Scope{
		{Root: "/r"},
		{Root: "/r", PropagatedDir: "/p"},
		{Root: "/r", PropagatedMount: "/x"},
		{Root: "/r", Binds: []Bind{{Source: "/s"}}},
	} {
		if got, err := s.Host("/x/y"); got != "/r/x/y" || err != nil {
			t.Errorf("%+v: got %q, %v", s, got, err)
		}
	}
}

func TestIdentityChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s := Identity()
	for _, p := range []string{"", dir, dir + "/../x", "relative"} {
		if got, err := s.Host(p); got != p || err != nil {
			t.Errorf("Host(%q) = %q, %v", p, got, err)
		}
	}
	if got, err := s.Resolve(dir); got != dir || err != nil {
		t.Errorf("Resolve = %q, %v", got, err)
	}
	if got, err := s.Resolve(""); got != "" || err != nil {
		t.Errorf("Resolve of nothing = %q, %v", got, err)
	}
	if _, err := s.Resolve(dir + "/missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Resolve of what is missing: %v", err)
	}
	if _, err := s.Resolve("relative"); err == nil {
		t.Error("Resolve takes a relative path")
	}
}

func TestBadPathsAreErrors(t *testing.T) {
	for name, s := range map[string]Scope{"managed": {Root: "/r"}, "identity": Identity()} {
		for _, p := range []string{"/a\x00b", "/" + strings.Repeat("x", maxPath)} {
			if _, err := s.Host(p); err == nil {
				t.Errorf("%s: Host takes %.20q", name, p)
			}
			if _, err := s.Resolve(p); err == nil {
				t.Errorf("%s: Resolve takes %.20q", name, p)
			}
		}
	}
	if p, err := (Scope{}).Host("/etc"); err == nil {
		t.Errorf("the zero scope translates /etc to %q", p)
	}
	if p, err := (Scope{}).Resolve("/etc"); err == nil {
		t.Errorf("the zero scope resolves /etc to %q", p)
	}
}

func FuzzHostNeverLeavesItsBase(f *testing.F) {
	for _, p := range []string{"/mnt/v", "/mnt/v/../x", "../..", "/mnt/vx", "/b/../../..", "//", "", "/b/./c//d/.."} {
		f.Add(p, "/mnt/v", "/b")
	}
	f.Add("/a", "../..", "..")
	f.Fuzz(func(t *testing.T, p, propagated, destination string) {
		s := Scope{
			Root: "/base/root", PropagatedMount: propagated, PropagatedDir: "/base/propagated",
			Binds: []Bind{{Destination: destination, Source: "/base/bind"}},
		}
		got, err := s.Host(p)
		if err != nil || p == "" {
			if got != "" {
				t.Errorf("Host(%q) = %q, %v", p, got, err)
			}
			return
		}
		if got != path.Clean(got) {
			t.Errorf("Host(%q) = %q is not clean", p, got)
		}
		for _, base := range []string{"/base/root", "/base/propagated", "/base/bind"} {
			if got == base || strings.HasPrefix(got, base+"/") {
				return
			}
		}
		t.Errorf("Host(%q) = %q is in none of the bases", p, got)
	})
}
