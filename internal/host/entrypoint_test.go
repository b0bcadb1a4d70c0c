package host

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// elfProgram returns the start of an ELF program for a machine.
func elfProgram(class, machine byte, kind uint16) []byte {
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
	b := elfProgram(2, machine, 3)
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
	machines := map[string]byte{"amd64": 62, "arm64": 183, "riscv64": 243, "ppc64le": 21}
	native, foreign, foreignArch := machines[runtime.GOARCH], machines["arm64"], "arm64"
	if runtime.GOARCH == "arm64" {
		foreign, foreignArch = machines["amd64"], "amd64"
	}
	if native == 0 {
		t.Fatalf("this test does not know how programs for %s begin", runtime.GOARCH)
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
	good := string(elfProgram(2, native, 2))
	write("bin/good", good, 0o755)
	write("bin/foreign", string(elfProgram(2, foreign, 2)), 0o755)
	write("bin/plain", good, 0o644)
	write("sbin/plain2", good, 0o644)
	write("bin/empty", "", 0o755)
	write("bin/text", "echo hello\n", 0o755)
	write("bin/script", "#!/bin/good -x\n", 0o755)
	write("bin/noshell", "#!/bin/bash\necho\n", 0o755)
	write("bin/dos", "#!/bin/good\r\necho\r\n", 0o755)
	write("bin/bare", "#!\n", 0o755)
	write("bin/loop", "#!/bin/loop\n", 0o755)
	write("bin/dyn", string(dynamic(native, "/lib64/ld-linux-x86-64.so.2")), 0o755)
	write("bin/dynok", string(dynamic(native, "/bin/good")), 0o755)
	write("bin/object", string(elfProgram(2, native, 1)), 0o755)
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

		"another machine":        {argv0: "bin/foreign", want: "bin/foreign is built for " + foreignArch + ", this host is " + runtime.GOARCH},
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
		"cut off":                {argv0: "/bin/cut", want: "/bin/cut is a damaged program: its header makes no sense"},
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

func TestThisProgramIsRead(t *testing.T) {
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := readProgram(f)
	if err != nil || p.arch() != runtime.GOARCH {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzReadProgram(f *testing.F) {
	f.Add(elfProgram(2, 62, 2))
	f.Add(elfProgram(1, 3, 2))
	f.Add(dynamic(62, "/lib/ld.so"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := readProgram(bytes.NewReader(b))
		if err == nil && (len(p.loader) > maxLoader || p.arch() == "") {
			t.Errorf("%+v", p)
		}
	})
}
