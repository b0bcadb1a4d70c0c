package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// daemon is an outlet daemon of its own for one test.
type daemon struct {
	t       *testing.T
	dir     string
	program string
	args    []string
	cmd     *exec.Cmd
	log     string
}

// startDaemon starts a daemon that runs plugins with runc. When the test ends
// the plugins are removed, the daemon is stopped, and nothing may be left.
func startDaemon(t *testing.T, flags ...string) *daemon {
	t.Helper()
	testutil.Need(t, testutil.Root, testutil.MountNS, testutil.Cgroups)
	d := &daemon{t: t, dir: testutil.TempDir(t), program: testutil.Build(t, "./cmd/outlet")}
	d.log = filepath.Join(d.dir, "log")
	config := filepath.Join(d.dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.args = append([]string{
		"daemon", "--config-file", config,
		"--data-root", filepath.Join(d.dir, "lib"), "--exec-root", filepath.Join(d.dir, "run"),
		"-H", d.host(), "--runtime", testutil.Program(t, testutil.Runc),
	}, flags...)
	d.start()
	t.Cleanup(d.end)
	return d
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "s") }
func (d *daemon) host() string   { return "unix://" + d.socket() }

func (d *daemon) start() {
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
	testutil.Eventually(d.t, 20*time.Second, func() error {
		c, err := net.Dial("unix", d.socket())
		if err != nil {
			return fmt.Errorf("%w\n%s", err, d.lastLog())
		}
		return c.Close()
	})
}

// stop stops the daemon as an operator would.
func (d *daemon) stop() {
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

func (d *daemon) end() {
	if d.t.Failed() {
		d.t.Logf("the daemon's log:\n%s", d.lastLog())
	}
	if d.cmd == nil {
		d.start()
	}
	for line := range strings.Lines(d.outlet("ls", "--format", "{{.Name}}").out) {
		d.outlet("rm", "-f", strings.TrimSpace(line))
	}
	d.stop()
}

func (d *daemon) lastLog() string {
	b, err := os.ReadFile(d.log)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4096):])
}

// result is what a command did.
type result struct {
	t        *testing.T
	cmd      string
	out, err string
	code     int
}

// ok fails the test unless the command succeeded, and returns what it printed.
func (r result) ok() string {
	r.t.Helper()
	if r.code != 0 {
		r.t.Fatalf("%s: exit %d\n%s%s", r.cmd, r.code, r.out, r.err)
	}
	return strings.TrimSpace(r.out)
}

// refused fails the test unless the command failed and said what is wanted.
func (r result) refused(want ...string) {
	r.t.Helper()
	if r.code == 0 {
		r.t.Errorf("%s succeeds: %s", r.cmd, r.out)
		return
	}
	for _, w := range want {
		if !strings.Contains(r.err, w) {
			r.t.Errorf("%s does not say %q: %s", r.cmd, w, r.err)
		}
	}
}

// run runs a program for at most two minutes.
func run(t *testing.T, env []string, program string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute) // also used while the test is cleaned up
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	err := cmd.Run()
	r := result{t: t, cmd: filepath.Base(program) + " " + strings.Join(args, " "), out: out.String(), err: stderr.String(), code: cmd.ProcessState.ExitCode()}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v", r.cmd, err)
	}
	return r
}

// outlet runs our own command line.
func (d *daemon) outlet(args ...string) result {
	d.t.Helper()
	return run(d.t, []string{"OUTLET_HOST=" + d.host()}, d.program, args...)
}

// docker returns a function that runs a docker command line against the daemon.
func (d *daemon) docker(cli testutil.Feature) func(args ...string) result {
	d.t.Helper()
	program := testutil.Program(d.t, cli)
	env := []string{"DOCKER_HOST=" + d.host(), "DOCKER_CONFIG=" + d.t.TempDir(), "DOCKER_CLI_HINTS=false"}
	return func(args ...string) result {
		d.t.Helper()
		return run(d.t, env, program, args...)
	}
}

// dirvol builds the example plugin and returns its directory.
func dirvol(t *testing.T) string {
	t.Helper()
	testutil.Need(t, testutil.Go)
	out := filepath.Join(t.TempDir(), "dirvol")
	cmd := exec.Command(filepath.Join(testutil.RepoRoot(t), "examples/dirvol/build.sh"), out)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build dirvol: %v\n%s", err, b)
	}
	return out
}
