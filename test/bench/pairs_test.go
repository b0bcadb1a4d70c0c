package bench

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// leastPairs is how often both sides are measured at least. They take turns, so
// that both meet the same machine, and their medians are compared.
const leastPairs = 7

// compare measures ours beside limit, in turns, and reports their medians in
// milliseconds and their ratio. aim is what the ratio must not exceed.
func compare(b *testing.B, aim float64, ours, limit func() time.Duration) {
	b.Helper()
	var a, l []time.Duration
	pair := func() {
		l = append(l, limit())
		a = append(a, ours())
	}
	for b.Loop() {
		pair()
	}
	for len(a) < leastPairs {
		pair()
	}
	report(b, median(a), median(l), aim)
}

// report reports what both took, and the ratio that the aim is about.
func report(b *testing.B, ours, limit time.Duration, aim float64) {
	b.Helper()
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
	b.ReportMetric(ms(ours), "outlet-ms")
	b.ReportMetric(ms(limit), "limit-ms")
	b.ReportMetric(float64(ours)/float64(limit), "ratio")
	b.ReportMetric(aim, "aim")
}

// reportTime reports what took a time, where the aim is one.
func reportTime(b *testing.B, ours, aim time.Duration) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(ours), "outlet-ms")
	b.ReportMetric(ms(aim), "aim-ms")
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func median(times []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(times))
	return sorted[len(sorted)/2]
}

// timed is how long f took.
func timed(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
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

// syncs is what a limit pays for storing that a plugin is enabled: one commit of
// a database, which writes its pages, syncs, writes where the root is, and syncs.
type syncs struct{ f *os.File }

func newSyncs(b *testing.B, dir string) syncs {
	b.Helper()
	f, err := os.Create(filepath.Join(dir, "commits"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	if _, err := f.Write(make([]byte, 8*4096)); err != nil {
		b.Fatal(err)
	}
	return syncs{f}
}

func (s syncs) commit(b *testing.B) {
	b.Helper()
	for _, pages := range []int{6, 1} {
		if _, err := s.f.WriteAt(make([]byte, pages*4096), 0); err != nil {
			b.Fatal(err)
		}
		if err := datasync(s.f); err != nil {
			b.Fatal(err)
		}
	}
}

// memoryDir is a directory in memory, as /run is where the daemon and runc keep
// what does not outlive the machine.
func memoryDir(b *testing.B) string {
	b.Helper()
	testutil.Need(b, testutil.Root, testutil.MountNS)
	dir := testutil.TempDir(b)
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=0755"); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			b.Error(err)
		}
	})
	return dir
}

// shortDir is a directory for the sockets of a limit.
func shortDir(b *testing.B) string { return testutil.TempDir(b) }
