package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// TestAnswers calls plugins that answer as none should. Each call ends with an
// error within the time the plugin was given, the daemon answers others
// meanwhile, and the plugin is disabled as if nothing had been.
func TestAnswers(t *testing.T) {
	const never = "deadline exceeded"
	for answer, want := range map[string]string{
		"unread":         never,
		"silent":         never,
		"late":           never,
		"garbage":        "malformed HTTP",
		"not-json":       "unexpected EOF",
		"hangup":         "unexpected EOF",
		"endless":        "too large",
		"endless-header": "header",
		"endless-error":  "no no no",
		"big-error":      "no no no",
	} {
		t.Run(answer, func(t *testing.T) {
			d, c := start(t)
			d.Outlet("create", "hostile", hostilePlugin(t, "-answer", answer)).OK()
			timeout := "60" // longer than even a busy machine takes
			if want == never {
				timeout = "2"
			}
			d.Outlet("enable", "--timeout", timeout, "hostile").OK()
			calls := []func() error{
				func() error {
					_, err := c.VolumeCreate(t.Context(), outlet.VolumeCreate{Name: "v", Driver: "hostile"})
					return err
				},
				// A list goes without the plugin that gives none, and says so.
				func() error {
					l, err := c.VolumeList(t.Context(), outlet.VolumeFilter{})
					if err == nil && len(l.Warnings) > 0 {
						err = fmt.Errorf("%s", strings.Join(l.Warnings, "\n"))
					}
					return err
				},
			}
			for i, call := range calls {
				err := call()
				if err == nil {
					t.Errorf("call %d succeeds", i)
				} else if text := err.Error(); len(text) > 512<<10 || !strings.Contains(text, want) {
					t.Errorf("the error of call %d does not say %q: %.500s", i, want, text)
				}
			}
			if p, err := c.Inspect(t.Context(), "hostile"); err != nil || p.Status.State != outlet.StateRunning || p.Status.Restarts != 0 {
				t.Errorf("the plugin is %+v, %v", p.Status, err)
			}
			d.Outlet("disable", "hostile").OK()
			d.Outlet("rm", "hostile").OK()
		})
	}
}

// The longest answer that is read holds some 14,000 volumes; beyond that the
// list goes without the plugin and says so.
func TestAHugeList(t *testing.T) {
	for answer, warned := range map[string]bool{"large-list": false, "huge-list": true} {
		t.Run(answer, func(t *testing.T) {
			d, c := start(t)
			running(t, d, "hostile", "-answer", answer)
			for range 3 {
				l, err := c.VolumeList(t.Context(), outlet.VolumeFilter{})
				if err != nil {
					t.Fatal(err)
				}
				t.Logf("%d volumes, warnings %q", len(l.Volumes), l.Warnings)
				if warned != (len(l.Warnings) > 0) || warned == (len(l.Volumes) > 0) {
					t.Errorf("%d volumes and %d warnings", len(l.Volumes), len(l.Warnings))
				}
			}
		})
	}
}

// TestMountpoints has a plugin say that its volume is where it is not. No path
// outside the plugin's own file system reaches the user as if it were the
// volume.
func TestMountpoints(t *testing.T) {
	secret := filepath.Join(testutil.TempDir(t), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	up := strings.Repeat("/..", 40)
	d, c := start(t)
	for name, path := range map[string]string{
		"upwards":                    up + secret,
		"upwards from the volume":    "/mnt" + up + secret,
		"a link to the host's root":  "/proc/1/root" + secret,
		"a link of the process":      "/proc/self/root/etc",
		"a file descriptor":          "/proc/self/fd/0",
		"relative":                   "etc",
		"NUL":                        "/mnt/\x00" + secret,
		"longer than paths may be":   "endless",
		"a link made by the plugin":  "/escape",
		"a link to a link":           "/escape2",
		"a link in the propagated":   "/propagated/escape",
		"upwards in the propagated":  "/propagated/../../../../.." + secret,
		"beside the propagated":      "/propagated2",
		"nothing":                    "",
		"the socket's own directory": "/run/docker/plugins/../../../escape",
	} {
		t.Run(name, func(t *testing.T) {
			cfg := daemontest.PluginConfig("-listen", daemontest.PluginListen, "-mountpoint="+path)
			if strings.ContainsRune(path, 0) { // a config cannot hold it, the answer can
				cfg = daemontest.PluginConfig("-listen", daemontest.PluginListen, "-mountpoint="+strings.ReplaceAll(path, "\x00", "NUL"))
			}
			cfg["propagatedMount"] = "/propagated"
			dir := daemontest.Context(t, cfg, testutil.Build(t, "./test/hostile/plugin"))
			for link, to := range map[string]string{"escape": filepath.Dir(secret), "escape2": "escape/secret"} {
				if err := os.Symlink(to, filepath.Join(dir, "rootfs", link)); err != nil {
					t.Fatal(err)
				}
			}
			d.Outlet("create", "hostile", dir).OK()
			defer func() { d.Outlet("rm", "-f", "hostile").OK() }()
			d.Outlet("enable", "hostile").OK()
			if _, err := c.VolumeCreate(t.Context(), outlet.VolumeCreate{Name: "v", Driver: "hostile"}); err != nil {
				t.Log(err)
				return
			}
			m, err := c.VolumeMount(t.Context(), "v", "")
			if err != nil {
				t.Log(err)
			} else {
				real, err := filepath.EvalSymlinks(m.Mountpoint)
				t.Logf("%s is %s, %v", m.Mountpoint, real, err)
				if err == nil && !strings.HasPrefix(real, d.Dir()+"/") {
					t.Errorf("the volume is said to be at %s, which is %s", m.Mountpoint, real)
				}
				if err := c.VolumeUnmount(t.Context(), "v", m.ID); err != nil {
					t.Error(err)
				}
			}
			if err := c.VolumeRemove(t.Context(), "v", false); err != nil {
				t.Error(err)
			}
		})
	}
}

// A plugin that prints as fast as it can is not blocked, keeps no more than the
// limits on disk, does not grow the daemon, and others are served.
func TestFloods(t *testing.T) {
	for _, what := range []string{"lines", "line"} {
		t.Run(what, func(t *testing.T) {
			config := filepath.Join(t.TempDir(), "daemon.json")
			if err := os.WriteFile(config, []byte(`{"plugins": {"log-max-size": "1m", "log-max-files": 3}}`), 0o600); err != nil {
				t.Fatal(err)
			}
			d, c := start(t, "--config-file", config)
			running(t, d, "hostile", "-print", what)
			p, err := c.Inspect(t.Context(), "hostile")
			if err != nil {
				t.Fatal(err)
			}
			log := filepath.Join(d.Dir(), "lib/plugins", p.ID, "log")
			// Three files of a megabyte, and what was printed since the daemon
			// looked last, which on a busy machine is a while ago and may be a
			// gigabyte: what counts is that it is cut away then.
			var printed, most int64
			began, before, small := time.Now(), written(t, p.Status.PID), 0
			testutil.Eventually(t, 2*time.Minute, func() error {
				if _, _, err := c.Call(t.Context(), "hostile", "Plugin.Activate", nil); err != nil {
					t.Fatal(err)
				}
				now := diskUsage(t, log)
				most = max(most, now)
				if printed = written(t, p.Status.PID) - before; printed > 256<<20 && now < 80<<20 {
					small++
				}
				if small < 5 || time.Since(began) < 5*time.Second {
					return fmt.Errorf("it printed %d MiB, of which %d MiB are on disk", printed>>20, now>>20)
				}
				return nil
			})
			t.Logf("it printed %d MiB, which took %d MiB of disk at most", printed>>20, most>>20)
			if out := d.Outlet("logs", "--tail", "5", "hostile"); out.Code != 0 || out.Out == "" {
				t.Errorf("logs: %d, %.200s%.200s", out.Code, out.Out, out.Err)
			}
			d.Outlet("disable", "hostile").OK()
			if now := diskUsage(t, log); now > 4<<20 {
				t.Errorf("its log takes %d KiB after it has ended", now>>10)
			}
		})
	}
}
