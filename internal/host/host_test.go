package host

import (
	"encoding/binary"
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
	testutil.Need(t, testutil.Root)
	dir := t.TempDir()
	for _, name := range []string{"a", "sub/b", "pts/hidden", "console"} {
		p := filepath.Join(dir, "dev", name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := unix.Mknod(p, unix.S_IFCHR|0o640, int(unix.Mkdev(1, 7))); err != nil {
			t.Skipf("device nodes cannot be made here: %v", err)
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

// program returns the start of an ELF program for a machine.
func program(class, machine byte, kind uint16) []byte {
	b := make([]byte, 64)
	copy(b, "\x7fELF")
	b[4], b[5], b[6] = class, 1, 1
	binary.LittleEndian.PutUint16(b[16:], kind)
	binary.LittleEndian.PutUint16(b[18:], uint16(machine))
	binary.LittleEndian.PutUint32(b[20:], 1)
	binary.LittleEndian.PutUint16(b[52:], 64)
	binary.LittleEndian.PutUint16(b[54:], 56)
	binary.LittleEndian.PutUint16(b[58:], 64)
	return b
}

// dynamic returns a program that names a loader.
func dynamic(machine byte, loader string) []byte {
	b := program(2, machine, 3)
	binary.LittleEndian.PutUint64(b[32:], 64) // program headers
	binary.LittleEndian.PutUint16(b[56:], 1)
	h := make([]byte, 56)
	binary.LittleEndian.PutUint32(h, 3) // PT_INTERP
	binary.LittleEndian.PutUint64(h[8:], 120)
	binary.LittleEndian.PutUint64(h[32:], uint64(len(loader)+1))
	binary.LittleEndian.PutUint64(h[40:], uint64(len(loader)+1))
	return append(append(append(b, h...), loader...), 0)
}

func TestDiagnoseEntrypoint(t *testing.T) {
	if new(Host).Facts().Arch != "amd64" {
		t.Skip("the programs of this test are for amd64")
	}
	root := t.TempDir()
	write := func(name, content string, mode os.FileMode) {
		t.Helper()
		p := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	good := string(program(2, 62, 2))
	write("bin/good", good, 0o755)
	write("bin/arm", string(program(2, 183, 2)), 0o755)
	write("bin/plain", good, 0o644)
	write("sbin/plain2", good, 0o644)
	write("bin/empty", "", 0o755)
	write("bin/text", "echo hello\n", 0o755)
	write("bin/script", "#!/bin/good -x\n", 0o755)
	write("bin/noshell", "#!/bin/bash\necho\n", 0o755)
	write("bin/dos", "#!/bin/good\r\necho\r\n", 0o755)
	write("bin/bare", "#!\n", 0o755)
	write("bin/loop", "#!/bin/loop\n", 0o755)
	write("bin/dyn", string(dynamic(62, "/lib64/ld-linux-x86-64.so.2")), 0o755)
	write("bin/dynok", string(dynamic(62, "/bin/good")), 0o755)
	write("bin/object", string(program(2, 62, 1)), 0o755)
	write("bin/cut", good[:20], 0o755)
	write("opt/app/venv/python", good, 0o755)
	for link, target := range map[string]string{"bin/abs": "/bin/good", "bin/out": "../../../../../../bin/good", "bin/nowhere": "/bin/gone", "bin/self": "self"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct{ argv0, cwd, want string }{
		"a program that runs":               {argv0: "/bin/good"},
		"found in PATH":                     {argv0: "good"},
		"relative to the working directory": {argv0: "./venv/python", cwd: "/opt/app"},
		"an absolute link stays inside":     {argv0: "/bin/abs"},
		"a link that climbs stays inside":   {argv0: "/bin/out"},
		"a script with its interpreter":     {argv0: "script"},
		"a loader that is there":            {argv0: "dynok"},
		"scripts without end":               {argv0: "/bin/loop"},

		"another machine":        {argv0: "bin/arm", want: "bin/arm is built for arm64, this host is amd64"},
		"not there":              {argv0: "/bin/none", want: "there is no /bin/none in the plugin's root filesystem"},
		"below a file":           {argv0: "/bin/good/x", want: "there is no /bin/good/x in the plugin's root filesystem"},
		"not in PATH":            {argv0: "none", want: "there is no none in the plugin's PATH (/sbin:/bin)"},
		"not executable":         {argv0: "/bin/plain", want: "/bin/plain is not executable: it lacks the x permission"},
		"in PATH not executable": {argv0: "plain2", want: "/sbin/plain2 is not executable: it lacks the x permission"},
		"a directory":            {argv0: "/bin", want: "/bin is a directory"},
		"empty":                  {argv0: "/bin/empty", want: "/bin/empty is empty"},
		"text without #!":        {argv0: "/bin/text", want: "/bin/text is neither a program nor a script that begins with #!"},
		"no interpreter":         {argv0: "/bin/noshell", want: "/bin/noshell is a script for /bin/bash, but there is no /bin/bash in the plugin's root filesystem"},
		"no name after #!":       {argv0: "/bin/bare", want: "/bin/bare is a script that names no interpreter after #!"},
		"no loader":              {argv0: "/bin/dyn", want: "/bin/dyn is linked dynamically and needs the loader /lib64/ld-linux-x86-64.so.2, which is not in the plugin's root filesystem: link it statically, or add the loader and its libraries"},
		"a CR in its name":       {argv0: "/bin/dos", want: `/bin/dos is a script for /bin/good, but there is no "/bin/good\r" in the plugin's root filesystem; the script's lines end in CR LF, and the CR counts as part of the name`},
		"an object file":         {argv0: "/bin/object", want: "/bin/object is no program: it is an object file"},
		"cut off":                {argv0: "/bin/cut", want: "/bin/cut is a damaged program: EOF"},
		"a link to nothing":      {argv0: "/bin/nowhere", want: "/bin/nowhere is a symbolic link to /bin/gone, which is not in the plugin's root filesystem"},
		"a link to itself":       {argv0: "/bin/self", want: "/bin/self is a symbolic link that leads nowhere"},
	} {
		t.Run(name, func(t *testing.T) {
			got := ""
			if p := DiagnoseEntrypoint(root, c.cwd, c.argv0, "/sbin:/bin"); p != nil {
				got = p.Error()
			}
			if got != c.want {
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

func TestDiagnoseEntrypointOfNothing(t *testing.T) {
	if p := DiagnoseEntrypoint("/does/not/exist", "", "x", "/bin"); p != nil {
		t.Errorf("%v", p)
	}
}
