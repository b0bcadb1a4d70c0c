package hostile

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// A plugin that listens and dies is started again ever more slowly, and costs
// the daemon, runc included, next to nothing. That it comes to at most two
// starts a minute is shown with a clock of its own in package manager.
func TestPluginsThatDieCostLittle(t *testing.T) {
	for _, after := range []string{"200ms", "1s"} {
		t.Run(after, func(t *testing.T) {
			d, c := start(t)
			running(t, d, "hostile", "-die", after)
			var used time.Duration
			for whole := false; !whole; {
				p := waitsForItsStart(t, d, c)
				if e := p.Status.LastExit; e == nil || e.Code != 3 || !p.Enabled {
					t.Errorf("it is %+v", p.Status)
				}
				before := d.CPU()
				<-time.After(5 * time.Second)
				used = d.CPU() - before
				// On a busy machine this may come back too late: then there is
				// the next start in it.
				whole = time.Now().Before(*p.Status.NextStart)
			}
			// The clock has ticks of 10 ms: 1 % of five seconds are five.
			t.Logf("the daemon took %v of processor time in 5 s", used)
			if used > 50*time.Millisecond {
				t.Errorf("the daemon took %v of processor time in 5 s", used)
			}
			d.Outlet("disable", "hostile").OK()
		})
	}
}

// waitsForItsStart waits until the plugin has died so often that its next start
// is at least six seconds away, and what was left of it is cleared away.
func waitsForItsStart(t *testing.T, d *daemontest.Daemon, c *client.Client) outlet.Plugin {
	t.Helper()
	var p outlet.Plugin
	// Three restarts at once, then after 1, 2, 4, 8 s and so on.
	testutil.Eventually(t, 3*time.Minute, func() error {
		var err error
		if p, err = c.Inspect(t.Context(), "hostile"); err != nil {
			return err
		}
		s := p.Status
		if s.State != outlet.StateBackoff || s.NextStart == nil || s.Restarts < 6 || time.Until(*s.NextStart) < 6*time.Second {
			return fmt.Errorf("it is %s after %d restarts, the next is at %v", s.State, s.Restarts, s.NextStart)
		}
		// The log says so after runc has done its part.
		if n := strings.Count(d.Outlet("logs", "hostile").Err, "it is started again in"); n <= s.Restarts {
			return fmt.Errorf("its log has %d ends and %d restarts", n, s.Restarts)
		}
		return nil
	})
	return p
}

// Whatever a plugin does to stay, nothing of it is left once it is disabled.
func TestPluginsThatStay(t *testing.T) {
	for name, args := range map[string][]string{
		"ignores signals":                   {"-stubborn"},
		"has children that ignore them too": {"-stubborn", "-forks", "5"},
		"has orphans in another session":    {"-stubborn", "-orphan"},
		"has orphans and goes":              {"-forks", "2", "-orphan"},
	} {
		t.Run(name, func(t *testing.T) {
			d, c := start(t, "--stop-timeout", "1s")
			running(t, d, "hostile", args...)
			p, err := c.Inspect(t.Context(), "hostile")
			if err != nil {
				t.Fatal(err)
			}
			if n := len(members(t, p.ID)); n == 0 {
				t.Fatal("the test finds none of its processes")
			}
			d.Outlet("disable", "hostile").OK()
			if left := members(t, p.ID); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
			if left := cgroups(t, p.ID); len(left) > 0 {
				t.Errorf("cgroups are left: %v", left)
			}
			// The same when it dies by itself: the next start is a clean one.
			d.Outlet("enable", "hostile").OK()
			if p, err = c.Inspect(t.Context(), "hostile"); err != nil {
				t.Fatal(err)
			}
			before := members(t, p.ID)
			daemontest.Signal(t, strconv.Itoa(p.Status.PID), syscall.SIGKILL)
			testutil.Eventually(t, time.Minute, func() error {
				now, err := c.Inspect(t.Context(), "hostile")
				if err == nil && (now.Status.Restarts != 1 || now.Status.State != outlet.StateRunning) {
					err = fmt.Errorf("it is %+v", now.Status)
				}
				return err
			})
			after := members(t, p.ID)
			for pid := range before {
				if after[pid] {
					t.Errorf("process %d outlived the start it belongs to", pid)
				}
			}
			d.Outlet("disable", "hostile").OK()
			if left := members(t, p.ID); len(left) > 0 {
				t.Errorf("processes are left: %v", left)
			}
		})
	}
}

// A plugin that removes its socket and goes on is found out by the first call,
// started again, and the call is answered.
func TestAPluginThatRemovesItsSocket(t *testing.T) {
	d, c := start(t)
	running(t, d, "hostile", "-unlink")
	p, err := c.Inspect(t.Context(), "hostile")
	if err != nil {
		t.Fatal(err)
	}
	daemontest.Signal(t, strconv.Itoa(p.Status.PID), syscall.SIGUSR1)
	testutil.Eventually(t, time.Minute, func() error {
		if _, err := os.Lstat(p.Status.Socket); err == nil {
			return fmt.Errorf("%s is there", p.Status.Socket)
		}
		return nil
	})
	if status, _, err := c.Call(t.Context(), "hostile", "Plugin.Activate", nil); err != nil || status != 200 {
		t.Errorf("the call ends with %d, %v", status, err)
	}
	if p, err = c.Inspect(t.Context(), "hostile"); err != nil || p.Status.Restarts != 1 {
		t.Errorf("it is %+v, %v", p.Status, err)
	}
	if out := d.Outlet("logs", "hostile"); !strings.Contains(out.Out+out.Err, "socket is gone") {
		t.Errorf("its log does not say why: %s%s", out.Out, out.Err)
	}
}

// cgroups are the directories of the plugin's cgroups.
func cgroups(t *testing.T, id string) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"/sys/fs/cgroup/*/outlet/" + id, "/sys/fs/cgroup/outlet/" + id} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, dirs...)
	}
	return found
}

// members are the processes in the plugin's cgroups.
func members(t *testing.T, id string) map[int]bool {
	t.Helper()
	pids := make(map[int]bool)
	for _, dir := range cgroups(t, id) {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue // it was removed meanwhile
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids[pid] = true
			}
		}
	}
	return pids
}
