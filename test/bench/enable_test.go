package bench

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	specs "github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// BenchmarkEnable measures enabling a plugin (API call until the answer) beside
// `runc run` of the same bundle until its socket accepts, in turns.
func BenchmarkEnable(b *testing.B) {
	d := daemontest.Start(b)
	c := connect(b, d)
	d.Outlet("create", "dirvol", daemontest.Dirvol(b)).OK()
	ctx := b.Context()
	enable := func() time.Duration {
		began := time.Now()
		if err := c.Enable(ctx, "dirvol", outlet.EnableOptions{}); err != nil {
			b.Fatal(err)
		}
		return time.Since(began)
	}
	disable := func() {
		if err := c.Disable(ctx, "dirvol", false); err != nil {
			b.Fatal(err)
		}
	}
	enable() // the bundle is there while the plugin runs
	limit := newRuncLimit(b, d)
	disable()

	var ours, theirs time.Duration
	for b.Loop() {
		theirs += limit.run(b)
		ours += enable()
		disable()
	}
	report(b, ours, theirs)
}

// connect returns a client of the daemon.
func connect(b *testing.B, d *daemontest.Daemon) *client.Client {
	b.Helper()
	c, err := client.New(client.Options{Host: d.Host()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	if _, err := c.Ping(b.Context()); err != nil {
		b.Fatal(err)
	}
	return c
}

// report prints what both took, and the ratio that the aim is about.
func report(b *testing.B, ours, theirs time.Duration) {
	b.Helper()
	n := time.Duration(b.N)
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
	b.ReportMetric(float64((ours/n).Microseconds())/1000, "outlet-ms")
	b.ReportMetric(float64((theirs/n).Microseconds())/1000, "limit-ms")
	b.ReportMetric(float64(ours)/float64(theirs), "ratio")
}

// runcLimit runs a copy of a plugin's bundle with runc alone.
type runcLimit struct {
	runc, dir string
}

// newRuncLimit copies the bundle of the plugin that runs, with directories of
// its own.
func newRuncLimit(b *testing.B, d *daemontest.Daemon) runcLimit {
	b.Helper()
	l := runcLimit{runc: testutil.Program(b, testutil.Runc), dir: testutil.TempDir(b)}
	bundle := d.BundleDir(d.Outlet("inspect", "-f", "{{.ID}}", "dirvol").OK())
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		b.Fatal(err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(raw, &spec); err != nil {
		b.Fatal(err)
	}
	root := filepath.Join(l.dir, "bundle/rootfs")
	if err := os.CopyFS(root, os.DirFS(filepath.Join(bundle, "rootfs"))); err != nil {
		b.Fatal(err)
	}
	for _, sub := range []string{"p", "v", "runc"} {
		if err := os.Mkdir(filepath.Join(l.dir, sub), 0o755); err != nil {
			b.Fatal(err)
		}
	}
	spec.Root.Path = root
	for i, m := range spec.Mounts {
		switch m.Destination {
		case "/run/docker/plugins":
			spec.Mounts[i].Source = filepath.Join(l.dir, "p")
		case "/var/lib/dirvol":
			spec.Mounts[i].Source = filepath.Join(l.dir, "v")
		}
	}
	spec.Linux.CgroupsPath = "/outlet-bench/limit"
	if raw, err = json.Marshal(spec); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(l.dir, "bundle/config.json"), raw, 0o600); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { removeCgroups("outlet-bench") })
	return l
}

// run starts the bundle, waits until its socket accepts, and ends it again. It
// returns how long it took until the socket accepted.
func (l runcLimit) run(b *testing.B) time.Duration {
	b.Helper()
	began := time.Now()
	cmd := exec.Command(l.runc, "--root", filepath.Join(l.dir, "runc"), "run", "--bundle", filepath.Join(l.dir, "bundle"), "outlet-bench-limit")
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = io.Discard, &stderr
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	socket := filepath.Join(l.dir, "p/dirvol.sock")
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("unix", socket)
		if err == nil {
			c.Close()
			break
		}
		if time.Since(began) > 20*time.Second {
			b.Fatalf("the limit does not come up: %v\n%s", err, stderr.String())
		}
		<-tick.C
	}
	took := time.Since(began)
	// runc in the foreground hands the signal on, and removes the container.
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		b.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		b.Fatalf("runc: %v\n%s", err, stderr.String())
	}
	return took
}

// removeCgroups removes an empty cgroup from every hierarchy.
func removeCgroups(name string) {
	dirs, _ := filepath.Glob("/sys/fs/cgroup/*/" + name) // the pattern is a good one
	for _, dir := range append(dirs, "/sys/fs/cgroup/"+name) {
		_ = os.Remove(dir) // not in every hierarchy
	}
}
