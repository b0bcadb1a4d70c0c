//go:build linux

package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/outletd/outlet/internal/testutil"
)

// TestMain makes the test binary the program too.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"outlet": func() { os.Exit(run()) }})
}

// TestScriptsAgainstADaemon runs the scripts of the command line that need a
// real daemon, each with one of its own at $OUTLET_HOST.
func TestScriptsAgainstADaemon(t *testing.T) {
	testutil.Need(t, testutil.Root, testutil.Overlay, testutil.Runc, testutil.Go)
	runc := testutil.Program(t, testutil.Runc)
	program, err := exec.LookPath("outlet") // put there by testscript.Main
	if err != nil {
		t.Fatal(err)
	}
	cache, err := exec.Command("go", "env", "GOCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir := testutil.TempDir(t)
	n := 0
	testscript.Run(t, testscript.Params{
		Dir:                 "../../internal/cli/testdata/daemon",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			n++
			root := filepath.Join(dir, strconv.Itoa(n))
			socket := filepath.Join(root, "o.sock")
			v1 := filepath.Join(root, "v1")
			if err := os.MkdirAll(v1, 0o700); err != nil {
				return err
			}
			d := exec.Command(program, "daemon", "-H", "unix://"+socket, "--data-root", filepath.Join(root, "d"),
				"--exec-root", filepath.Join(root, "r"), "--runtime", runc, "--live-restore=false",
				// What other tests run as v1 plugins of the host is not this daemon's.
				"--v1-socket-dir", v1, "--v1-spec-dir", v1)
			var log bytes.Buffer
			d.Stderr = &log
			if err := d.Start(); err != nil {
				return err
			}
			env.Defer(func() {
				if err := d.Process.Signal(syscall.SIGTERM); err != nil {
					t.Error(err)
				}
				if err := d.Wait(); err != nil {
					t.Errorf("the daemon ended with %v", err)
				}
				t.Logf("the daemon logged\n%s", log.String())
			})
			testutil.Eventually(t, time.Minute, func() error { // a socket is there before it listens
				c, err := net.Dial("unix", socket)
				if err == nil {
					c.Close()
				}
				return err
			})
			env.Setenv("OUTLET_HOST", "unix://"+socket)
			env.Setenv("GOCACHE", string(cache[:len(cache)-1]))
			env.Setenv("CGO_ENABLED", "0")
			env.Setenv("GOPROXY", "off")
			env.Setenv("GOTOOLCHAIN", "local")
			return nil
		},
	})
}
