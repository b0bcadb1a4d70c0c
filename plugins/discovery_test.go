package plugins_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
)

// tree makes a socket directory and two spec directories.
type tree struct {
	t          testing.TB
	sock, a, b string
}

func newTree(t testing.TB) *tree {
	t.Helper()
	root := t.TempDir()
	tr := &tree{t, filepath.Join(root, "s"), filepath.Join(root, "a"), filepath.Join(root, "b")}
	for _, d := range []string{tr.sock, tr.a, tr.b} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return tr
}

func (tr *tree) write(path, content string) {
	tr.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		tr.t.Fatal(err)
	}
}

// socket binds a socket and leaves it there with nobody listening.
func (tr *tree) socket(path string) {
	tr.t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		tr.t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
}

// registry looks into the tree. Unless it is changed, it has the patience that a
// plugin of the same busy process may need.
func (tr *tree) registry(change ...func(*plugins.Config)) *plugins.Registry {
	tr.t.Helper()
	cfg := plugins.Config{
		SocketDir: tr.sock, SpecDirs: []string{tr.a, tr.b},
		ProbeTimeout: time.Minute, ProbeConnectTimeout: time.Minute,
	}
	for _, f := range change {
		f(&cfg)
	}
	r, err := plugins.New(cfg)
	if err != nil {
		tr.t.Fatal(err)
	}
	tr.t.Cleanup(func() { r.Close() })
	return r
}

// docs/spec/v1-plugins.md §2.3: of ten files for one name, the first in this
// order wins.
func TestLookupOrder(t *testing.T) {
	tr := newTree(t)
	r := tr.registry()
	files := []string{
		filepath.Join(tr.sock, "n.sock"), filepath.Join(tr.sock, "n/n.sock"),
	}
	for _, dir := range []string{tr.a, tr.b} {
		for _, f := range []string{"n.spec", "n/n.spec", "n.json", "n/n.json"} {
			files = append(files, filepath.Join(dir, f))
		}
	}
	for i, f := range files {
		switch filepath.Ext(f) {
		case ".sock":
			tr.socket(f)
		case ".spec":
			tr.write(f, fmt.Sprintf(" tcp://h:%d \n", i))
		case ".json":
			tr.write(f, fmt.Sprintf(`{"Name":"other","Addr":"tcp://h:%d"} trailing`, i))
		}
	}
	for i, f := range files {
		def, err := r.Lookup("n")
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("tcp://h:%d", i)
		if filepath.Ext(f) == ".sock" {
			want = "unix://" + f
		}
		if def.Path != f || def.Addr != want || def.Name != "n" {
			t.Errorf("%s at %s, want %s at %s", def.Addr, def.Path, want, f)
		}
		if err := os.Remove(f); err != nil {
			t.Fatal(err)
		}
	}
	_, err := r.Lookup("n")
	if !errors.Is(err, plugins.ErrNotFound) || err.Error() != "could not find plugin n in v1 plugin registry: plugin not found" {
		t.Errorf("error %v", err)
	}
}

func TestD07RootlessDirectories(t *testing.T) {
	for _, tt := range []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"not rootless", map[string]string{"ROOTLESSKIT_STATE_DIR": "", "XDG_CONFIG_HOME": "/x", "HOME": "/h"}, []string{"/etc/docker/plugins", "/usr/lib/docker/plugins"}},
		{"XDG set", map[string]string{"ROOTLESSKIT_STATE_DIR": "/r", "XDG_CONFIG_HOME": "/x", "HOME": "/h"}, []string{"/x/docker/plugins", "/h/.local/lib/docker/plugins"}},
		{"XDG unset", map[string]string{"ROOTLESSKIT_STATE_DIR": "/r", "XDG_CONFIG_HOME": "", "HOME": "/h"}, []string{"/h/.config/docker/plugins", "/h/.local/lib/docker/plugins"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			if got := plugins.SpecsPaths(); !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

func TestAddresses(t *testing.T) {
	for _, tt := range []struct {
		addr, why string
		want      plugins.Address
	}{
		{addr: "unix:///run/x.sock", want: plugins.Address{Scheme: "unix", Path: "/run/x.sock"}},
		{addr: "unix:///run/a%20b?c#d.sock", want: plugins.Address{Scheme: "unix", Path: "/run/a%20b?c#d.sock"}},
		{addr: "npipe:////./pipe/x", want: plugins.Address{Scheme: "npipe", Path: "//./pipe/x"}},
		{addr: "tcp://h:1", want: plugins.Address{Scheme: "tcp", Host: "h:1"}},
		{addr: "http://[::1]:80", want: plugins.Address{Scheme: "http", Host: "[::1]:80"}},
		{addr: "https://h:1/base/path/", want: plugins.Address{Scheme: "https", Host: "h:1", Base: "/base/path"}},
		{addr: "HTTPS://h", want: plugins.Address{Scheme: "https", Host: "h"}},
		{addr: "", why: "Unknown protocol"},
		{addr: "/run/x.sock", why: "Unknown protocol"},
		{addr: "localhost:8080", why: "protocol \"localhost\" is none of"}, // D-12
		{addr: "ftp://h", why: "protocol \"ftp\" is none of"},              // D-12
		{addr: "tcp://", why: "has no host"},                               // D-12
		{addr: "https://:443", why: "has no host"},                         // D-12
		{addr: "http:h:1", why: "has no host"},                             // D-12
		{addr: "unix://var/run/x.sock", why: "three slashes"},              // D-13
		{addr: "unix:var/run/x.sock", why: "absolute path"},                // D-13
		{addr: "unix:/var/run/x.sock", why: "absolute path"},
		{addr: "unix://", why: "has no path"},
		{addr: "tcp://user:secret@h:1", why: "credentials"},
		{addr: "tcp://h:1?x", why: "only a path"},
		{addr: "tcp://h:1\n", why: "control characters"},
		{addr: "tcp://h:port", why: "invalid port"},
	} {
		t.Run(tt.addr, func(t *testing.T) {
			got, err := plugins.ParseAddress(tt.addr)
			if tt.why != "" {
				if err == nil || !strings.Contains(err.Error(), tt.why) || strings.Contains(err.Error(), "secret") {
					t.Errorf("%+v, error %v, want one that says %q", got, err, tt.why)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("%+v, %v, want %+v", got, err, tt.want)
			}
		})
	}
}

func TestD12AddressesAreChecked(t *testing.T) {
	tr := newTree(t)
	r := tr.registry()
	tr.write(filepath.Join(tr.a, "spec.spec"), "localhost:8080")
	tr.write(filepath.Join(tr.a, "noaddr.json"), `{"Name":"x"}`)
	tr.write(filepath.Join(tr.a, "empty.spec"), "")
	for _, name := range []string{"spec", "noaddr", "empty"} {
		if def, err := r.Lookup(name); err == nil || errors.Is(err, plugins.ErrNotFound) {
			t.Errorf("%s: %+v, %v", name, def, err)
		}
	}
}

func TestD13TwoSlashesAreRefused(t *testing.T) {
	tr := newTree(t)
	tr.write(filepath.Join(tr.a, "n.spec"), "unix://var/run/x.sock")
	if _, err := tr.registry().Lookup("n"); err == nil || !strings.Contains(err.Error(), "unix:///var/run/x.sock") {
		t.Errorf("error %v, want one that shows the right form", err)
	}
}

func TestD14NameIsOnePathComponent(t *testing.T) {
	tr := newTree(t)
	tr.socket(filepath.Join(filepath.Dir(tr.sock), "containerd/containerd.sock"))
	tr.socket(filepath.Join(tr.sock, ".hidden.sock"))
	r := tr.registry()
	for _, name := range []string{"../containerd/containerd", "../containerd", "a/b", `a\b`, ".", "..", ".hidden", "a\x00b", "org/name:tag"} {
		if _, err := r.Lookup(name); !errors.Is(err, plugins.ErrNotFound) {
			t.Errorf("%q: %v, want not found", name, err)
		}
		// Not found is final for a name that cannot be: nothing to wait for.
		if _, err := r.Get(t.Context(), name, "VolumeDriver"); !errors.Is(err, plugins.ErrNotFound) {
			t.Errorf("get %q: %v, want not found", name, err)
		}
	}
	if _, err := r.Get(t.Context(), "", "VolumeDriver"); err == nil || err.Error() != "Unable to find plugin without name" {
		t.Errorf("empty name: %v", err)
	}
}

// The oddities of D-15 and D-16 in one tree: Scan lists exactly what Lookup
// resolves, each name once.
func TestD15ScanAndLookupAgree(t *testing.T) {
	tr := newTree(t)
	tr.socket(filepath.Join(tr.sock, "plain.sock"))
	tr.socket(filepath.Join(tr.sock, "nested/nested.sock"))
	tr.socket(filepath.Join(tr.sock, "wrongext.socket"))
	tr.socket(filepath.Join(tr.sock, ".sock"))
	tr.socket(filepath.Join(tr.sock, "other/name.sock"))
	tr.write(filepath.Join(tr.sock, "file.sock"), "no socket")
	tr.write(filepath.Join(tr.sock, "spec-among-sockets.spec"), "tcp://h:1")
	tr.socket(filepath.Join(filepath.Dir(tr.sock), "elsewhere"))
	must(t, os.Symlink("../elsewhere", filepath.Join(tr.sock, "linked.sock")))
	must(t, os.Symlink("../nowhere", filepath.Join(tr.sock, "dangling.sock")))
	must(t, os.Symlink("nested", filepath.Join(tr.sock, "linkdir")))
	tr.socket(filepath.Join(tr.sock, "dir.sock/dir.sock.sock"))
	tr.write(filepath.Join(tr.a, "both.spec"), "tcp://h:1")
	tr.write(filepath.Join(tr.b, "both.json"), `{"Addr":"tcp://h:2"}`)
	tr.write(filepath.Join(tr.a, "plain.spec"), "tcp://h:3")
	tr.write(filepath.Join(tr.a, "hidden/hidden.conf"), "x")
	tr.write(filepath.Join(tr.a, "hidden/hidden.spec"), "tcp://h:4")
	tr.write(filepath.Join(tr.a, "wrong/other.spec"), "tcp://h:5")
	tr.write(filepath.Join(tr.a, "readme.txt"), "x")
	tr.write(filepath.Join(tr.a, ".spec"), "tcp://h:6")
	tr.write(filepath.Join(tr.a, "broken.spec"), "nonsense")
	tr.write(filepath.Join(tr.b, "json/json.json"), `{"Addr":"tcp://h:7"}`)
	r := tr.registry()

	got, err := r.Scan()
	want := []string{"dir.sock", "linked", "nested", "plain", "both", "hidden", "json"}
	if !slices.Equal(got, want) {
		t.Errorf("scan found %q, want %q", got, want)
	}
	if err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("error %v, want one about the broken definition", err)
	}
	var all []string
	for _, dir := range []string{tr.sock, tr.a, tr.b} {
		entries, err := os.ReadDir(dir)
		must(t, err)
		for _, e := range entries {
			all = append(all, e.Name(), strings.TrimSuffix(e.Name(), filepath.Ext(e.Name())))
		}
	}
	for _, name := range all {
		_, err := r.Lookup(name)
		if (err == nil) != slices.Contains(got, name) {
			t.Errorf("%q: listed %v, lookup says %v", name, slices.Contains(got, name), err)
		}
	}
}

func TestD17UnreadableDirectoryHidesNothingElse(t *testing.T) {
	tr := newTree(t)
	must(t, os.Remove(tr.a))
	tr.write(tr.a, "a file where a directory is expected")
	tr.write(filepath.Join(tr.b, "n.spec"), "tcp://h:1")
	tr.socket(filepath.Join(tr.sock, "s.sock"))
	got, err := tr.registry().Scan()
	if !slices.Equal(got, []string{"s", "n"}) || err == nil {
		t.Errorf("%q, %v", got, err)
	}
	missing := tr.registry(func(c *plugins.Config) {
		c.SocketDir, c.SpecDirs = filepath.Join(tr.b, "no"), []string{filepath.Join(tr.b, "neither")}
	})
	if got, err := missing.Scan(); len(got) != 0 || err != nil {
		t.Errorf("missing directories: %q, %v", got, err)
	}
}

func TestD18LongSocketPathsAreRefused(t *testing.T) {
	for n, good := range map[int]bool{103: true, 107: true, 108: false, 200: false} {
		path := "/" + strings.Repeat("x", n-1)
		_, err := plugins.ParseAddress("unix://" + path)
		if n == 107 && err != nil && strings.Contains(err.Error(), "at most 103") {
			continue // the BSDs have less room
		}
		if (err == nil) != good {
			t.Errorf("%d bytes: %v", n, err)
		}
		if err != nil && (!strings.Contains(err.Error(), "is too long") || !strings.Contains(err.Error(), fmt.Sprint(n))) {
			t.Errorf("the error does not say how long it is: %v", err)
		}
	}
}

func TestD19NamedPipes(t *testing.T) {
	c := client(t, "npipe:////./pipe/x", plugins.ClientOptions{RetryBudget: -1})
	err := c.CallContext(t.Context(), "Plugin.Activate", nil, nil)
	if err == nil {
		t.Fatal("there is no such pipe")
	}
	if os.PathSeparator == '/' && (!errors.Is(err, plugins.ErrUnsupportedPlatform) || !strings.Contains(err.Error(), "protocol not available")) {
		t.Errorf("error %v", err)
	}
}

func TestDefinitionsThatAreNoRegularFile(t *testing.T) {
	tr := newTree(t)
	must(t, os.Mkdir(filepath.Join(tr.a, "dir.spec"), 0o755))
	must(t, os.Symlink("/dev/zero", filepath.Join(tr.a, "zero.json")))
	tr.write(filepath.Join(tr.a, "huge.spec"), strings.Repeat(" ", 2<<20)+"tcp://h:1")
	for _, name := range []string{"dir", "zero", "huge"} {
		if _, err := tr.registry().Lookup(name); err == nil || errors.Is(err, plugins.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"unix:///a", "npipe:////./pipe/x", "tcp://h:1", "https://h/b%20/", "http://[::1]:80", "unix://a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		a, err := plugins.ParseAddress(s)
		if err != nil {
			return
		}
		if a.IsLocal() == (a.Path == "") || a.IsLocal() == (a.Host != "") {
			t.Fatalf("%q is neither a path nor a host: %+v", s, a)
		}
		again, err := plugins.ParseAddress(a.String())
		if err != nil || again != a {
			t.Fatalf("%q prints as %q, which reads as %+v, %v", s, a, again, err)
		}
	})
}

func FuzzDefinition(f *testing.F) {
	f.Add([]byte(`{"Addr":"tcp://h:1","TLSConfig":{"MinVersion":771,"ClientAuth":4}}`))
	f.Add([]byte(" unix:///x \n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		tr := newTree(t)
		tr.write(filepath.Join(tr.a, "j.json"), string(content))
		tr.write(filepath.Join(tr.a, "s.spec"), string(content))
		r := tr.registry()
		names, _ := r.Scan()
		for _, name := range []string{"j", "s"} {
			def, err := r.Lookup(name)
			if (err == nil) != slices.Contains(names, name) {
				t.Fatalf("scan lists %q, lookup of %s says %v", names, name, err)
			}
			if err == nil && (def.Name != name || def.Address == plugins.Address{}) {
				t.Fatalf("definition %+v", def)
			}
		}
	})
}
