package bench

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// BenchmarkDockerd measures enable and disable beside those of dockerd, in
// turns, with the same plugin. Here the ratio says how often ours goes into
// dockerd's, and must not be below the aim.
func BenchmarkDockerd(b *testing.B) {
	engine := startDockerd(b)
	dir := daemontest.Dirvol(b)
	cli := testutil.Program(b, testutil.DockerCLI20)
	docker := func(args ...string) {
		b.Helper()
		daemontest.Run(b, []string{"DOCKER_HOST=unix://" + engine.socket, "DOCKER_CONFIG=" + b.TempDir()}, cli, args...).OK()
	}
	docker("plugin", "create", "dirvol", dir)
	f := newFleet(b, fleetSize)
	f.disable("fleet0")
	var on, off, theirOn, theirOff []time.Duration
	for range leastPairs {
		theirOn = append(theirOn, timed(func() { engine.post(b, "/plugins/dirvol/enable?timeout=30") }))
		theirOff = append(theirOff, timed(func() { engine.post(b, "/plugins/dirvol/disable") }))
		on = append(on, timed(func() { f.enable("fleet0") }))
		off = append(off, timed(func() { f.disable("fleet0") }))
	}
	docker("plugin", "rm", "dirvol")
	for _, r := range []struct {
		name         string
		ours, theirs []time.Duration
		aim          float64
	}{{"enable", on, theirOn, 15}, {"disable", off, theirOff, 4}} {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				continue // measured above, in turns
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ms(median(r.ours)), "outlet-ms")
			b.ReportMetric(ms(median(r.theirs)), "dockerd-ms")
			b.ReportMetric(float64(median(r.theirs))/float64(median(r.ours)), "times-faster")
			b.ReportMetric(r.aim, "times-aim")
		})
	}
}

type dockerd struct {
	socket string
	client *http.Client
}

// startDockerd starts a dockerd of its own, which touches nothing of the host's
// network, and ends it with the test.
func startDockerd(b *testing.B) dockerd {
	b.Helper()
	dir := shortDir(b)
	d := dockerd{socket: filepath.Join(dir, "d.sock")}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(testutil.Program(b, testutil.Dockerd), "-H", "unix://"+d.socket, "--iptables=false", "--bridge=none",
		"--data-root", filepath.Join(dir, "lib"), "--exec-root", memoryDir(b), "--pidfile", filepath.Join(dir, "pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			b.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			b.Log(err)
		}
		points, _ := testutil.Mounts(dir) // what it leaves behind is not ours to complain of
		for i := len(points) - 1; i >= 0; i-- {
			_ = syscall.Unmount(points[i], syscall.MNT_DETACH)
		}
	})
	d.client = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", d.socket)
	}}}
	testutil.Eventually(b, 30*time.Second, func() error {
		res, err := d.client.Get("http://x/_ping")
		if err != nil {
			text, _ := os.ReadFile(log.Name())
			return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
		}
		return res.Body.Close()
	})
	return d
}

func (d dockerd) post(b *testing.B, path string) {
	b.Helper()
	res, err := d.client.Post("http://x"+path, "", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 300 {
		text, _ := io.ReadAll(res.Body)
		b.Fatalf("%s: %s: %s", path, res.Status, text)
	}
}
