package host

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

func TestFactsOfThisMachineMakeSense(t *testing.T) {
	var h Host
	f := h.Facts()
	t.Logf("%+v", f)
	if f.OS == "" || f.Kernel == "" || f.Arch == "" || f.CPUs < 1 || f.MemoryBytes <= 0 {
		t.Errorf("something is missing: %+v", f)
	}
	if f.UID != os.Geteuid() {
		t.Errorf("uid is %d", f.UID)
	}
	if f.CanMount != (f.MountError == "") || f.CanUnshare != (f.UnshareError == "") {
		t.Errorf("what can be done and why not contradict each other: %+v", f)
	}
	if f.UID == 0 && !f.UserNS && f.HasCapability("CAP_SYS_ADMIN") != f.CanUnshare {
		t.Errorf("CAP_SYS_ADMIN is %v, making namespaces is %v (%s)", f.HasCapability("CAP_SYS_ADMIN"), f.CanUnshare, f.UnshareError)
	}
	if f.Cgroups.Usable() != (testutil.Cgroups.Probe() == nil) {
		t.Errorf("control groups usable: %v, tests say %v", f.Cgroups, testutil.Cgroups.Probe())
	}
}

func TestTryingLeavesThisProcessWhereItIs(t *testing.T) {
	namespaces := func() (links []string) {
		for _, name := range []string{"mnt", "net", "pid", "ipc", "uts", "user", "pid_for_children"} {
			link, err := os.Readlink("/proc/self/ns/" + name)
			if err != nil {
				t.Fatal(err)
			}
			links = append(links, link)
		}
		return links
	}
	before := namespaces()
	for range 20 {
		new(Host).Facts()
	}
	if after := namespaces(); !slices.Equal(before, after) {
		t.Errorf("namespaces before %v, after %v", before, after)
	}
	if _, err := os.ReadFile("/proc/self/status"); err != nil {
		t.Errorf("/proc is covered: %v", err)
	}
}

func TestFactsAreCopies(t *testing.T) {
	h := &Host{}
	h.once.Do(func() { h.facts = Facts{ThermalThrottle: []string{"a"}, Cgroups: Cgroups{Controllers: []string{"b"}}} })
	f := h.Facts()
	f.ThermalThrottle[0], f.Cgroups.Controllers[0] = "x", "x"
	if g := h.Facts(); g.ThermalThrottle[0] != "a" || g.Cgroups.Controllers[0] != "b" {
		t.Errorf("a caller changed the facts: %+v", g)
	}
}

func TestCapabilities(t *testing.T) {
	c := Capabilities(1<<21 | 1)
	if !c.Has("CAP_SYS_ADMIN") || !c.Has("CAP_CHOWN") || c.Has("CAP_NET_RAW") || c.Has("CAP_NONSENSE") {
		t.Errorf("%v", c.Names())
	}
	if got := AllCapabilities.Without("CAP_SYS_RESOURCE", "CAP_NONSENSE").Names(); len(got) != 40 || slices.Contains(got, "CAP_SYS_RESOURCE") {
		t.Errorf("without one there are %d", len(got))
	}
	if !KnownCapability("CAP_CHECKPOINT_RESTORE") || KnownCapability("SYS_ADMIN") || KnownCapability("ALL") {
		t.Error("names are told apart wrongly")
	}
}

func TestReleaseName(t *testing.T) {
	for text, want := range map[string]string{
		"NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n": "Debian GNU/Linux 12",
		"PRETTY_NAME='Alpine'":                          "Alpine",
		"PRETTY_NAME=plain\n":                           "plain",
		"NAME=x\n":                                      "",
	} {
		if got := releaseName(text); got != want {
			t.Errorf("releaseName(%q) = %q", text, got)
		}
	}
}

func TestFirstUserNS(t *testing.T) {
	if !firstUserNS("         0          0 4294967295\n") || firstUserNS("         0       1000          1\n") || firstUserNS("") {
		t.Error("user namespaces are told apart wrongly")
	}
}

func TestOwnGroups(t *testing.T) {
	got := ownGroups("9:name=systemd:/a\n3:cpu,cpuacct:/b:c\n0::/u\nbad\n")
	if got["name=systemd"] != "/a" || got["cpu"] != "/b:c" || got["cpuacct"] != "/b:c" || got[""] != "/u" || len(got) != 4 {
		t.Errorf("%v", got)
	}
}

func TestCgroupsElsewhereAreNone(t *testing.T) {
	if got := cgroups(t.TempDir(), "/proc/self/cgroup"); got.Mode != CgroupNone && got.Usable() {
		t.Errorf("%+v", got)
	}
	if got := cgroups("/sys/fs/cgroup", "/does/not/exist"); got.Mode != CgroupNone {
		t.Errorf("%+v", got)
	}
}

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	null := Device{Path: "/dev/null", Type: "c", Major: 1, Minor: 3}
	for name, c := range map[string]struct {
		path string
		want Device
		err  string
	}{
		"a node is itself":              {path: "/dev/null", want: null},
		"a link keeps its own path":     {path: link, want: Device{Path: link, Type: "c", Major: 1, Minor: 3}},
		"a file is none":                {path: file, err: "not a device node"},
		"a directory without nodes":     {path: dir, err: "not a device node"},
		"what is not there is an error": {path: dir + "/none", err: "no such file or directory"},
		"a file of the kernel is none":  {path: "/proc/self/environ", err: "not a device node"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Devices(c.path)
			if c.err != "" {
				prefix := `error gathering device information while adding custom device "` + c.path + `": `
				if !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.HasPrefix(err.Error(), prefix) || !strings.HasSuffix(err.Error(), c.err) {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil || len(got) != 1 {
				t.Fatalf("%v, %v", got, err)
			}
			got[0].Mode, got[0].UID, got[0].GID = 0, 0, 0
			if got[0] != c.want {
				t.Errorf("got %+v, want %+v", got[0], c.want)
			}
		})
	}
}

func TestDevicesOfADirectoryAreWalked(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.MountNS)
	dir := t.TempDir()
	for _, name := range []string{"a", "sub/b", "pts/hidden", "console"} {
		p := filepath.Join(dir, "dev", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(p, unix.S_IFCHR|0o640, int(unix.Mkdev(1, 7))); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("dev", link); err != nil {
		t.Fatal(err)
	}
	got, err := Devices(link)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, d := range got {
		paths = append(paths, d.Path)
		if d.Major != 1 || d.Minor != 7 || d.Mode != 0o640 {
			t.Errorf("%+v", d)
		}
	}
	if want := []string{link + "/a", link + "/sub/b"}; !slices.Equal(paths, want) {
		t.Errorf("got %v, want %v", paths, want)
	}
}

func TestMountFlags(t *testing.T) {
	flags, err := MountFlags("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(info)) {
		if fields := strings.Fields(line); fields[4] == "/proc" {
			want = strings.Split(fields[5], ",")
		}
	}
	for _, f := range flags {
		if !slices.Contains(want, f) {
			t.Errorf("%s is not among %v", f, want)
		}
	}
	if slices.Contains(want, "relatime") && !slices.Contains(flags, "relatime") {
		t.Errorf("relatime is missing in %v", flags)
	}
	if _, err := MountFlags("/does/not/exist"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestMissing(t *testing.T) {
	if got := Missing([]string{"/", "/does/not/exist", "/dev/null/x", "/proc"}); !slices.Equal(got, []string{"/does/not/exist", "/dev/null/x"}) {
		t.Errorf("%v", got)
	}
}
