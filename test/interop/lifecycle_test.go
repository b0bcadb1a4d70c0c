package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
)

func TestPluginsOutliveTheDaemon(t *testing.T) {
	d := startDaemon(t)
	d.outlet("create", "dirvol", dirvol(t)).ok()
	d.outlet("enable", "dirvol").ok()
	d.outlet("volume", "create", "-d", "dirvol", "v").ok()
	path := d.outlet("volume", "mount", "v").ok()
	if err := os.WriteFile(filepath.Join(path, "f"), []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := d.outlet("inspect", "-f", "{{.Status.PID}}", "dirvol").ok()
	d.stop()
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Fatalf("the plugin ended with the daemon: %v", err)
	}
	d.start()
	testutil.Eventually(t, 20*time.Second, func() error {
		if got := d.outlet("inspect", "-f", "{{.Status.State}} {{.Status.PID}} {{.Status.Restarts}}", "dirvol").ok(); got != "running "+pid+" 0" {
			return fmt.Errorf("it is %s, its pid was %s", got, pid)
		}
		return nil
	})
	d.outlet("disable", "dirvol").refused("in use", "v")
	if got := d.outlet("exec", "dirvol", "/dirvol", "cat", "v", "f").ok(); got != "kept" {
		t.Errorf("got %q", got)
	}
	d.outlet("volume", "unmount", "v").ok()
	d.outlet("volume", "rm", "v").ok()
	d.outlet("disable", "dirvol").ok()
	d.outlet("rm", "dirvol").ok()
}

func TestPluginsEndWithTheDaemonWithoutLiveRestore(t *testing.T) {
	d := startDaemon(t, "--live-restore=false")
	d.outlet("create", "dirvol", dirvol(t)).ok()
	d.outlet("enable", "dirvol").ok()
	pid := d.outlet("inspect", "-f", "{{.Status.PID}}", "dirvol").ok()
	d.stop()
	if _, err := os.Stat("/proc/" + pid); err == nil {
		t.Error("the plugin is still there")
	}
	d.start()
	testutil.Eventually(t, 20*time.Second, func() error {
		if got := d.outlet("inspect", "-f", "{{.Enabled}} {{.Status.State}}", "dirvol").ok(); got != "true running" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

func TestAKilledPluginComesBackWithItsData(t *testing.T) {
	d := startDaemon(t)
	d.outlet("create", "dirvol", dirvol(t)).ok()
	d.outlet("enable", "dirvol").ok()
	d.outlet("volume", "create", "-d", "dirvol", "v").ok()
	d.outlet("exec", "dirvol", "/dirvol", "put", "v", "f").ok()
	run(t, nil, "kill", "-KILL", d.outlet("inspect", "-f", "{{.Status.PID}}", "dirvol").ok()).ok()
	testutil.Eventually(t, 20*time.Second, func() error {
		if got := d.outlet("inspect", "-f", "{{.Status.State}} {{.Status.Restarts}} {{.Status.LastExit.Signal}}", "dirvol").ok(); got != "running 1 9" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	if got := d.outlet("volume", "ls", "-q").ok(); got != "v" {
		t.Errorf("volumes: %q", got)
	}
	if status := d.outlet("ls", "--format", "{{.Status}}").ok(); !strings.Contains(status, "1 restart") {
		t.Errorf("ls does not show the restart: %q", status)
	}
	if logs := d.outlet("logs", "dirvol").ok(); strings.Count(logs, "serving") != 2 {
		t.Errorf("logs of both lives:\n%s", logs)
	}
}

func TestASecondDaemonOnTheSameRootIsRefused(t *testing.T) {
	d := startDaemon(t)
	second := append([]string(nil), d.args...)
	for i, a := range second {
		if a == "-H" {
			second[i+1] = d.host() + "2"
		}
	}
	run(t, nil, d.program, second...).refused(fmt.Sprint(d.cmd.Process.Pid))
}
