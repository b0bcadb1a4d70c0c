// Package daemontest starts the built daemon for tests that use it from outside,
// as its users do: by its command line, by docker's, by its API. It is not for
// tests of the daemon's parts, and only files named _test.go import it.
package daemontest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
)

// Daemon is an outlet daemon of its own for one test.
type Daemon struct {
	t       testing.TB
	dir     string
	program string
	args    []string
	cmd     *exec.Cmd
	log     string
}

// Start starts a daemon that runs plugins with runc. When the test ends
// the plugins are removed, the daemon is stopped, and nothing may be left.
func Start(t testing.TB, flags ...string) *Daemon {
	t.Helper()
	testutil.Need(t, testutil.Root, testutil.MountNS, testutil.Cgroups)
	d := &Daemon{t: t, dir: testutil.TempDir(t), program: testutil.Build(t, "./cmd/outlet")}
	d.log = filepath.Join(d.dir, "log")
	config := filepath.Join(d.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// What other tests run as v1 plugins of the host at the same time is not
	// this daemon's.
	v1 := filepath.Join(d.dir, "v1")
	if err := os.Mkdir(v1, 0o755); err != nil {
		t.Fatal(err)
	}
	d.args = append([]string{
		"daemon", "--config-file", config,
		"--data-root", filepath.Join(d.dir, "lib"), "--exec-root", filepath.Join(d.dir, "run"),
		"-H", d.Host(), "--runtime", testutil.Program(t, testutil.Runc),
		"--v1-socket-dir", v1, "--v1-spec-dir", v1,
	}, flags...)
	d.Start()
	t.Cleanup(d.end)
	return d
}

// Dir is the directory that everything of the daemon is below.
func (d *Daemon) Dir() string { return d.dir }

// Socket is the path of the API's socket.
func (d *Daemon) Socket() string { return filepath.Join(d.dir, "s") }

// Host is the address of the API as clients take it.
func (d *Daemon) Host() string { return "unix://" + d.Socket() }

// Program is the path of the built program.
func (d *Daemon) Program() string { return d.program }

// Args are the daemon's arguments.
func (d *Daemon) Args() []string { return slices.Clone(d.args) }

// PID is the process of the daemon.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// BundleDir is the directory of the bundle of a plugin that runs.
func (d *Daemon) BundleDir(id string) string {
	var execRoot string
	for i, arg := range d.args {
		if arg == "--exec-root" {
			execRoot = d.args[i+1] // the last one counts
		}
	}
	return filepath.Join(execRoot, "b", id[:12])
}

// Start starts the daemon again, after [Daemon.Stop], on the same directories.
func (d *Daemon) Start() {
	d.t.Helper()
	log, err := os.OpenFile(d.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(d.program, d.args...)
	d.cmd.Stderr = log
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	testutil.Eventually(d.t, time.Minute, func() error {
		err := d.listens()
		if err != nil {
			return fmt.Errorf("%w\n%s", err, d.lastLog())
		}
		return nil
	})
}

// listens says whether this daemon serves its socket. That somebody does is not
// enough: a process that a killed daemon was about to start has the socket of
// that one for a moment longer.
func (d *Daemon) listens() error {
	c, err := net.Dial("unix", d.Socket())
	if err != nil {
		return err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var peerErr error
	if err := raw.Control(func(fd uintptr) {
		peer, peerErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if peerErr == nil && int(peer.Pid) != d.PID() {
		peerErr = fmt.Errorf("process %d listens, and not the daemon, which is %d", peer.Pid, d.PID())
	}
	return peerErr
}

// Stop stops the daemon as an operator would.
func (d *Daemon) Stop() {
	d.t.Helper()
	if d.cmd == nil {
		return
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		d.t.Error(err)
	}
	if err := d.cmd.Wait(); err != nil {
		d.t.Errorf("the daemon ended with: %v\n%s", err, d.lastLog())
	}
	d.cmd = nil
}

// Kill kills the daemon, as a crash would end it.
func (d *Daemon) Kill() {
	d.t.Helper()
	if err := d.cmd.Process.Kill(); err != nil {
		d.t.Error(err)
	}
	_ = d.cmd.Wait() // says that it was killed
	d.cmd = nil
}

func (d *Daemon) end() {
	if d.t.Failed() {
		d.t.Logf("the daemon's log:\n%s", d.lastLog())
	}
	if d.cmd == nil {
		d.Start()
	}
	for line := range strings.Lines(d.Outlet("ls", "--format", "{{.Name}}").Out) {
		d.Outlet("rm", "-f", strings.TrimSpace(line))
	}
	d.Stop()
}

func (d *Daemon) lastLog() string {
	b, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4096):])
}

// Result is what a command did.
type Result struct {
	t testing.TB
	// Cmd is the command as it would be typed.
	Cmd string
	// Out and Err are what it printed, Code its exit status.
	Out, Err string
	Code     int
}

// OK fails the test unless the command succeeded, and returns what it printed.
func (r Result) OK() string {
	r.t.Helper()
	if r.Code != 0 {
		r.t.Fatalf("%s: exit %d\n%s%s", r.Cmd, r.Code, r.Out, r.Err)
	}
	return strings.TrimSpace(r.Out)
}

// Refused fails the test unless the command failed and said what is wanted.
func (r Result) Refused(want ...string) {
	r.t.Helper()
	if r.Code == 0 {
		r.t.Errorf("%s succeeds: %s", r.Cmd, r.Out)
		return
	}
	for _, w := range want {
		if !strings.Contains(r.Err, w) {
			r.t.Errorf("%s does not say %q: %s", r.Cmd, w, r.Err)
		}
	}
}

// Run runs a program for at most ten minutes: some build others, on a machine
// that does much beside it.
func Run(t testing.TB, env []string, program string, args ...string) Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) // also used while the test is cleaned up
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	r := Result{t: t, Cmd: filepath.Base(program) + " " + strings.Join(args, " "), Out: out.String(), Err: stderr.String(), Code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", r.Cmd, err)
	}
	return r
}

// Outlet runs our own command line.
func (d *Daemon) Outlet(args ...string) Result {
	d.t.Helper()
	return Run(d.t, []string{"OUTLET_HOST=" + d.Host()}, d.program, args...)
}

// Docker returns a function that runs a docker command line against the daemon.
func (d *Daemon) Docker(cli testutil.Feature) func(args ...string) Result {
	d.t.Helper()
	program := testutil.Program(d.t, cli)
	env := []string{"DOCKER_HOST=" + d.Host(), "DOCKER_CONFIG=" + d.t.TempDir(), "DOCKER_CLI_HINTS=false"}
	return func(args ...string) Result {
		d.t.Helper()
		return Run(d.t, env, program, args...)
	}
}

// Dirvol builds the example plugin and returns its directory.
func Dirvol(t testing.TB) string {
	t.Helper()
	testutil.Need(t, testutil.Go)
	out := filepath.Join(t.TempDir(), "dirvol")
	cmd := exec.Command(filepath.Join(testutil.RepoRoot(t), "examples/dirvol/build.sh"), out)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build dirvol: %v\n%s", err, b)
	}
	return out
}
