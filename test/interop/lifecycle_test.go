package interop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moby/sys/mountinfo"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

func TestPluginsOutliveTheDaemon(t *testing.T) {
	d := daemontest.Start(t)
	d.Outlet("create", "dirvol", daemontest.Dirvol(t)).OK()
	d.Outlet("enable", "dirvol").OK()
	d.Outlet("volume", "create", "-d", "dirvol", "v").OK()
	path := d.Outlet("volume", "mount", "v").OK()
	if err := os.WriteFile(filepath.Join(path, "f"), []byte("kept"), 0o644); err != nil {
		t.Fatal(err)
	}
	pid := d.Outlet("inspect", "-f", "{{.Status.PID}}", "dirvol").OK()
	d.Stop()
	if _, err := os.Stat("/proc/" + pid); err != nil {
		t.Fatalf("the plugin ended with the daemon: %v", err)
	}
	d.Start()
	testutil.Eventually(t, time.Minute, func() error {
		if got := d.Outlet("inspect", "-f", "{{.Status.State}} {{.Status.PID}} {{.Status.Restarts}}", "dirvol").OK(); got != "running "+pid+" 0" {
			return fmt.Errorf("it is %s, its pid was %s", got, pid)
		}
		return nil
	})
	d.Outlet("disable", "dirvol").Refused("in use", "v")
	if got := d.Outlet("exec", "dirvol", "/dirvol", "cat", "v", "f").OK(); got != "kept" {
		t.Errorf("got %q", got)
	}
	d.Outlet("volume", "unmount", "v").OK()
	d.Outlet("volume", "rm", "v").OK()
	d.Outlet("disable", "dirvol").OK()
	d.Outlet("rm", "dirvol").OK()
}

func TestPluginsEndWithTheDaemonWithoutLiveRestore(t *testing.T) {
	d := daemontest.Start(t, "--live-restore=false")
	d.Outlet("create", "dirvol", daemontest.Dirvol(t)).OK()
	d.Outlet("enable", "dirvol").OK()
	pid := d.Outlet("inspect", "-f", "{{.Status.PID}}", "dirvol").OK()
	d.Stop()
	if _, err := os.Stat("/proc/" + pid); err == nil {
		t.Error("the plugin is still there")
	}
	d.Start()
	testutil.Eventually(t, time.Minute, func() error {
		if got := d.Outlet("inspect", "-f", "{{.Enabled}} {{.Status.State}}", "dirvol").OK(); got != "true running" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

func TestAKilledPluginComesBackWithItsData(t *testing.T) {
	d := daemontest.Start(t)
	d.Outlet("create", "dirvol", daemontest.Dirvol(t)).OK()
	d.Outlet("enable", "dirvol").OK()
	d.Outlet("volume", "create", "-d", "dirvol", "v").OK()
	d.Outlet("exec", "dirvol", "/dirvol", "put", "v", "f").OK()
	daemontest.Signal(t, d.Outlet("inspect", "-f", "{{.Status.PID}}", "dirvol").OK(), syscall.SIGKILL)
	testutil.Eventually(t, time.Minute, func() error {
		if got := d.Outlet("inspect", "-f", "{{.Status.State}} {{.Status.Restarts}} {{with .Status.LastExit}}{{.Signal}}{{end}}", "dirvol").OK(); got != "running 1 9" {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
	if got := d.Outlet("volume", "ls", "-q").OK(); got != "v" {
		t.Errorf("volumes: %q", got)
	}
	if status := d.Outlet("ls", "--format", "{{.Status}}").OK(); !strings.Contains(status, "1 restart") {
		t.Errorf("ls does not show the restart: %q", status)
	}
	// It says so, and the daemon tells of it, a moment after it can be used.
	testutil.Eventually(t, time.Minute, func() error {
		if logs := d.Outlet("logs", "dirvol").OK(); strings.Count(logs, "serving") != 2 {
			return fmt.Errorf("logs of both lives:\n%s", logs)
		}
		events := d.Outlet("events", "--since", "10m", "--until", "0s", "--filter", "event=die", "--filter", "event=restart",
			"--format", `{{.Action}} {{.Actor.Attributes.name}} {{index .Actor.Attributes "exitCode"}} {{.Actor.Attributes.restarts}}`).OK()
		if want := "die dirvol:latest 137 0\nrestart dirvol:latest  1"; events != want {
			return fmt.Errorf("events:\n%s\nwant:\n%s", events, want)
		}
		return nil
	})
}

func TestAPluginIsNotHeldByThoseOfItsPredecessor(t *testing.T) {
	d := daemontest.Start(t)
	context := daemontest.Dirvol(t)
	for _, start := range []string{"", "again"} {
		d.Outlet("create", "dirvol", context).OK()
		d.Outlet("enable", "dirvol").OK()
		if start != "" {
			d.Stop()
			d.Start()
		}
		if got := d.Outlet("inspect", "--format", "{{json .Status.Holders}}", "dirvol").OK(); got != "[]" && got != "null" {
			t.Errorf("held by %s", got)
		}
		d.Outlet("disable", "dirvol").OK()
		d.Outlet("enable", "dirvol").OK()
		d.Outlet("volume", "create", "-d", "dirvol", "notes").OK()
		d.Outlet("volume", "mount", "notes").OK()
		d.Outlet("disable", "dirvol").Refused("in use by volume notes")
		d.Outlet("rm", "-f", "dirvol").OK()
	}
}

func TestAVolumeHoldsAPluginThatIsDisabledByForce(t *testing.T) {
	d := daemontest.Start(t)
	d.Outlet("create", "dirvol", daemontest.Dirvol(t)).OK()
	d.Outlet("enable", "dirvol").OK()
	d.Outlet("volume", "create", "-d", "dirvol", "-o", "type=tmpfs", "notes").OK()
	dir := d.Outlet("volume", "mount", "notes").OK()
	held := func(want string) {
		t.Helper()
		if got := d.Outlet("inspect", "--format", "{{range .Status.Holders}}{{.Kind}} {{.Name}}{{end}}", "dirvol").OK(); got != want {
			t.Errorf("held by %q, not %q", got, want)
		}
		if got := d.Outlet("system", "check").OK(); strings.Contains(got, "hold") {
			t.Errorf("a check finds %s", got)
		}
	}
	mounted := func(want bool) {
		t.Helper()
		is, err := mountinfo.Mounted(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || is != want {
			t.Errorf("mounted is %v, %v", is, err)
		}
	}
	held("volume notes")
	mounted(true)
	for _, restart := range []bool{false, true} {
		d.Outlet("disable", "dirvol").Refused("in use by volume notes")
		d.Outlet("disable", "-f", "dirvol").OK()
		if restart {
			d.Stop()
			d.Start()
		}
		held("volume notes")
		mounted(false)
		d.Outlet("rm", "dirvol").Refused("in use by volume notes")
		d.Outlet("set", "dirvol", "TMPFS_SIZE=2m").OK() // what many disable a plugin for
		d.Outlet("enable", "dirvol").OK()
		held("volume notes")
		mounted(true) // again, at the same place
	}
	// Whoever has it mounted may end that while the plugin is away.
	d.Outlet("disable", "-f", "dirvol").OK()
	d.Outlet("volume", "unmount", "notes").OK()
	held("")
	d.Outlet("enable", "dirvol").OK()
	held("")
	d.Outlet("disable", "dirvol").OK()
	d.Outlet("enable", "dirvol").OK()
	d.Outlet("volume", "mount", "notes").OK()
	d.Outlet("disable", "-f", "dirvol").OK()
	d.Outlet("rm", "dirvol").Refused("in use by volume notes")
	d.Outlet("rm", "-f", "dirvol").OK()
	d.Outlet("create", "dirvol", daemontest.Dirvol(t)).OK()
	held("")
}

func TestASecondDaemonOnTheSameRootIsRefused(t *testing.T) {
	d := daemontest.Start(t)
	second := d.Args()
	for i, a := range second {
		if a == "-H" {
			second[i+1] = d.Host() + "2"
		}
	}
	daemontest.Run(t, nil, d.Program(), second...).Refused(fmt.Sprint(d.PID()))
}
