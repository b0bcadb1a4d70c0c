package runtimetest

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/testutil" //nolint:depguard // this package is for tests only
)

// ProgramPath is where the test program lies in the bundles made here.
const ProgramPath = "/program"

// ProgramEnv names the built test program where a test cannot build it: in a
// user namespace without a home.
const ProgramEnv = "OUTLET_RUNTIMETEST_PROGRAM"

const programPackage = "./internal/runtime/runtimetest/program"

// A Box is a bundle for tests with what belongs to it.
type Box struct {
	runtime.Bundle
	// Rootfs is the directory of the root filesystem, a plain one.
	Rootfs string
	// Mark is the last argument of the program and of all it starts.
	Mark string
	// Socket is the host path of what the process knows as
	// /run/docker/plugins/test.sock.
	Socket string
}

// BoxOptions change what [NewBox] makes.
type BoxOptions struct {
	// Dir is where the bundle is made; "" is a directory of the test.
	Dir string
	// Args are the program's arguments; see package program.
	Args []string
	// PIDHost leaves out the pid namespace.
	PIDHost bool
	// Change, if not nil, changes the spec before it is written.
	Change func(*specs.Spec)
}

// NewBox makes a bundle whose process is the test program. Its output files are
// opened for appending and closed with the test.
func NewBox(tb testing.TB, o BoxOptions) *Box {
	tb.Helper()
	dir := o.Dir
	if dir == "" {
		dir = testutil.TempDir(tb)
	}
	b := &Box{Mark: "mark-" + random(), Rootfs: filepath.Join(dir, "rootfs")}
	b.ID = "test-" + random()
	b.Dir = dir
	sockets := filepath.Join(dir, "s")
	for _, d := range []string{"proc", "sys", "dev", "tmp", "run", "etc"} {
		must(tb, os.MkdirAll(filepath.Join(b.Rootfs, d), 0o755))
	}
	must(tb, os.MkdirAll(sockets, 0o700))
	b.Owned = []string{sockets}
	b.Socket = filepath.Join(sockets, "test.sock")
	must(tb, os.Link(program(tb, dir), filepath.Join(b.Rootfs, ProgramPath)))

	cgroupsPath := "/outlet-test/" + b.ID
	if testutil.Cgroups.Probe() != nil {
		cgroupsPath = "" // runc does without only if none is asked for
	}
	spec := baseSpec(b, cgroupsPath, append([]string{ProgramPath}, append(o.Args, b.Mark)...))
	if o.PIDHost {
		ns := spec.Linux.Namespaces[:0]
		for _, n := range spec.Linux.Namespaces {
			if n.Type != specs.PIDNamespace {
				ns = append(ns, n)
			}
		}
		spec.Linux.Namespaces = ns
	}
	if o.Change != nil {
		o.Change(spec)
	}
	raw, err := json.MarshalIndent(spec, "", "\t")
	must(tb, err)
	must(tb, os.WriteFile(filepath.Join(dir, "config.json"), raw, 0o600))
	b.Stdout = appendTo(tb, filepath.Join(dir, "stdout"))
	b.Stderr = appendTo(tb, filepath.Join(dir, "stderr"))
	return b
}

// Output returns what the process has printed to its standard output.
func (b *Box) Output(tb testing.TB) string {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join(b.Dir, "stdout"))
	must(tb, err)
	return string(raw)
}

// Errors returns what the process has printed to its standard error.
func (b *Box) Errors(tb testing.TB) string {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join(b.Dir, "stderr"))
	must(tb, err)
	return string(raw)
}

// Processes returns the pids of all processes on the host that carry the box'
// mark and are no zombies.
func (b *Box) Processes(tb testing.TB) []string {
	tb.Helper()
	entries, err := os.ReadDir("/proc")
	must(tb, err)
	var pids []string
	for _, e := range entries {
		// The cmdline of a zombie is empty.
		if raw, err := os.ReadFile("/proc/" + e.Name() + "/cmdline"); err == nil && strings.Contains(string(raw), b.Mark) {
			pids = append(pids, e.Name())
		}
	}
	return pids
}

func baseSpec(b *Box, cgroupsPath string, args []string) *specs.Spec {
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_MKNOD",
		"CAP_SETGID", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
	mount := func(dest, typ, source string, options ...string) specs.Mount {
		return specs.Mount{Destination: dest, Type: typ, Source: source, Options: options}
	}
	return &specs.Spec{
		Version: "1.0.2",
		Root:    &specs.Root{Path: "rootfs"},
		Process: &specs.Process{
			Args:         args,
			Cwd:          "/",
			Env:          []string{"PATH=/bin", "FROM=spec"},
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Permitted: caps, Effective: caps},
		},
		Mounts: []specs.Mount{
			mount("/proc", "proc", "proc", "nosuid", "noexec", "nodev"),
			mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
			mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
			mount("/dev/shm", "tmpfs", "shm", "nosuid", "noexec", "nodev", "mode=1777"),
			mount("/run/docker/plugins", "bind", b.Owned[0], "rbind", "rshared"),
		},
		Linux: &specs.Linux{
			CgroupsPath: cgroupsPath,
			Namespaces: []specs.LinuxNamespace{
				{Type: specs.MountNamespace},
				{Type: specs.NetworkNamespace},
				{Type: specs.UTSNamespace},
				{Type: specs.PIDNamespace},
				{Type: specs.IPCNamespace},
			},
		},
	}
}

// program returns a copy of the program on the file system of dir.
func program(tb testing.TB, dir string) string {
	tb.Helper()
	path := filepath.Join(dir, "program")
	from := os.Getenv(ProgramEnv)
	if from == "" {
		from = testutil.Build(tb, programPackage)
	}
	raw, err := os.ReadFile(from)
	must(tb, err)
	must(tb, os.WriteFile(path, raw, 0o755))
	return path
}

func appendTo(tb testing.TB, path string) *os.File {
	tb.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	must(tb, err)
	tb.Cleanup(func() { _ = f.Close() })
	return f
}

func random() string {
	b := make([]byte, 6)
	_, _ = rand.Read(b) // it never fails
	return hex.EncodeToString(b)
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
