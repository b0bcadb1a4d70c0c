package runc

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/runtimetest"
	"github.com/outletd/outlet/internal/testutil"
)

// BenchmarkStart measures the time from a start until the plugin's socket
// accepts, by turns with a plain foreground `runc run` of the same bundle, and
// what stopping costs: SIGTERM until exit, and Delete. Run it with a fixed
// number of pairs, -benchtime 15x.
func BenchmarkStart(b *testing.B) {
	testutil.Need(b, testutil.Root, testutil.MountNS, testutil.Cgroups, testutil.Runc)
	path := testutil.Program(b, testutil.Runc)
	r, err := reap.New(reap.Config{Subreaper: true})
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	rt, err := New(Config{Path: path, Root: filepath.Join(testutil.TempDir(b), "state"), Reaper: r})
	if err != nil {
		b.Fatal(err)
	}
	defer rt.Close()
	plainRoot := filepath.Join(testutil.TempDir(b), "plain")

	var plain, ours, returned, exit, deleted []time.Duration
	for range b.N {
		plain = append(plain, plainRun(b, path, plainRoot))

		box := runtimetest.NewBox(b, runtimetest.BoxOptions{Args: socketArgs})
		start := time.Now()
		task, err := rt.Start(b.Context(), box.Bundle)
		if err != nil {
			b.Fatal(err)
		}
		returned = append(returned, time.Since(start))
		awaitSocket(b, box.Socket)
		ours = append(ours, time.Since(start))
		exit, deleted = stop(b, task, exit, deleted)
	}
	report(b, "limit-ms", plain)
	report(b, "outlet-ms", ours)
	report(b, "start-returns-ms", returned)
	report(b, "term-to-exit-ms", exit)
	report(b, "delete-ms", deleted)
	b.ReportMetric(float64(median(ours))/float64(median(plain)), "ratio")
	b.ReportMetric(0, "ns/op") // means nothing here
}

var socketArgs = []string{"listen", "/run/docker/plugins/test.sock"}

// plainRun is the limit: runc in the foreground, and the socket polled.
func plainRun(b *testing.B, path, root string) time.Duration {
	b.Helper()
	box := runtimetest.NewBox(b, runtimetest.BoxOptions{Args: socketArgs})
	cmd := exec.Command(path, "--root", root, "run", "--bundle", box.Dir, box.ID)
	cmd.Stdout, cmd.Stderr = box.Stdout, box.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	awaitSocket(b, box.Socket)
	took := time.Since(start)
	_ = cmd.Process.Signal(syscall.SIGTERM) // runc hands it on
	_ = cmd.Wait()                          // with the plugin's status
	return took
}

func stop(b *testing.B, task runtime.Task, exit, deleted []time.Duration) (e, d []time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 10*time.Second)
	defer cancel()
	start := time.Now()
	if err := task.Signal(ctx, syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	select {
	case <-task.Done():
	case <-ctx.Done():
		b.Fatal("no exit")
	}
	exit = append(exit, time.Since(start))
	start = time.Now()
	if err := task.Delete(ctx); err != nil {
		b.Fatal(err)
	}
	return exit, append(deleted, time.Since(start))
}

func awaitSocket(b *testing.B, path string) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for range 20000 {
		if c, err := net.Dial("unix", path); err == nil {
			_ = c.Close()
			return
		}
		<-tick.C
	}
	b.Fatal("the socket does not accept")
}

func report(b *testing.B, unit string, times []time.Duration) {
	b.Helper()
	b.ReportMetric(float64(median(times).Microseconds())/1000, unit)
}

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}
