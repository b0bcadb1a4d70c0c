package daemontest

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mount"

	"github.com/outletd/outlet/internal/testutil"
)

// Dockerd starts Docker's daemon for one test, with directories of its own, and
// returns a function that runs a docker command line against it.
func Dockerd(t testing.TB, flags ...string) func(args ...string) Result {
	t.Helper()
	testutil.Need(t, testutil.Dockerd)
	dir := testutil.TempDir(t)
	socket := filepath.Join(dir, "s")
	var log lockedBuffer
	cmd := exec.Command(testutil.Program(t, testutil.Dockerd), append([]string{
		"--data-root", filepath.Join(dir, "lib"), "--exec-root", filepath.Join(dir, "run"), "--pidfile", filepath.Join(dir, "pid"),
		"-H", "unix://" + socket, "--iptables=false", "--bridge=none", "--storage-driver=vfs",
	}, flags...)...)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it may have ended before
		if t.Failed() {
			t.Logf("dockerd's log:\n%s", log.tail(4096))
		}
		if err := mount.RecursiveUnmount(dir); err != nil {
			t.Error(err)
		}
	})
	testutil.Eventually(t, 2*time.Minute, func() error {
		c, err := net.Dial("unix", socket)
		if err != nil {
			return fmt.Errorf("%w\n%s", err, log.tail(2048))
		}
		return c.Close()
	})
	docker := testutil.Program(t, testutil.DockerCLI20)
	env := []string{"DOCKER_HOST=unix://" + socket, "DOCKER_CONFIG=" + t.TempDir()}
	return func(args ...string) Result {
		t.Helper()
		return Run(t, env, docker, args...)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.b.String()
	return s[max(0, len(s)-n):]
}

// DockerTyping runs a docker command line against the daemon and types input.
func (d *Daemon) DockerTyping(cli testutil.Feature, input string, args ...string) Result {
	d.t.Helper()
	program := testutil.Program(d.t, cli)
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+d.Host(), "DOCKER_CONFIG="+d.t.TempDir())
	cmd.Stdin = bytes.NewReader([]byte(input))
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	_ = cmd.Run() // the exit code tells
	return Result{t: d.t, Cmd: filepath.Base(program) + " " + args[0], Out: out.String(), Err: stderr.String(), Code: cmd.ProcessState.ExitCode()}
}
