package bench

import (
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// BenchmarkStartWithRunning measures starting the daemon while fifty plugins
// run: from the start of its process until the API answers a list, and until
// all plugins are found again.
func BenchmarkStartWithRunning(b *testing.B) {
	f := newFleet(b, fleetSize)
	var api, all []time.Duration
	round := func() {
		f.d.Stop()
		began := time.Now()
		f.d.Start()
		if _, err := f.c.List(b.Context(), outlet.ListFilter{}); err != nil {
			b.Fatal(err)
		}
		api = append(api, time.Since(began))
		f.running()
		all = append(all, time.Since(began))
	}
	for b.Loop() {
		round()
	}
	for len(api) < leastPairs {
		round()
	}
	reportTime(b, median(api), 200*time.Millisecond)
	b.ReportMetric(ms(median(all)), "attached-ms")
	b.ReportMetric(500, "attached-aim-ms")
}

// BenchmarkColdStart measures starting the daemon with fifty enabled plugins of
// which none runs, until all are reachable, beside their bundles started by
// runc alone, four at a time. The daemon does not let plugins outlive it, so
// that stopping it is measured too: until every process is gone.
func BenchmarkColdStart(b *testing.B) {
	f := newFleet(b, fleetSize, "--live-restore=false")
	limits := make(map[string]runcLimit)
	first := newRuncLimit(b, f.d, f.names[0], nil)
	for _, name := range f.names {
		limits[name] = newRuncLimit(b, f.d, name, &first)
	}
	var stops []time.Duration
	stop := func() {
		var pids []int
		for _, name := range f.names {
			pids = append(pids, f.inspect(name).Status.PID)
		}
		stops = append(stops, timed(func() {
			f.d.Stop()
			for _, pid := range pids {
				if syscall.Kill(pid, 0) == nil {
					b.Errorf("process %d outlives the daemon", pid)
				}
			}
		}))
	}
	var sockets []string
	for _, name := range f.names {
		sockets = append(sockets, f.inspect(name).Status.Socket)
	}
	stop()
	compare(b, 1.3, func() time.Duration {
		// Whether all are reachable is seen as with the limit: to ask for the
		// list of fifty over and over would be most of the work.
		took := timed(func() {
			f.d.Start()
			for _, s := range sockets {
				if err := accepts(s); err != nil {
					b.Fatal(err)
				}
			}
		})
		f.running()
		stop()
		return took
	}, func() time.Duration {
		var mu sync.Mutex
		var started []runs
		took := timed(func() {
			each(f.names, func(name string) {
				r := limits[name].run(b)
				mu.Lock()
				defer mu.Unlock()
				started = append(started, r)
			})
		})
		for _, r := range started {
			r.end()
		}
		return took
	})
	b.ReportMetric(ms(median(stops)), "stop-ms")
	b.ReportMetric(300, "stop-aim-ms")
	f.d.Start()
}

// BenchmarkMemory measures the resident memory of a daemon after a quiet
// moment, with no plugins and with fifty that were enabled one after the other.
func BenchmarkMemory(b *testing.B) {
	for name, c := range map[string]struct {
		size int
		aim  float64
	}{"idle": {0, 25}, "fifty": {fleetSize, 40}} {
		b.Run(name, func(b *testing.B) {
			f := newFleet(b, c.size)
			var rss []int64
			for b.Loop() {
				rss = append(rss, quietRSS(b, f.d))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(rss[len(rss)-1])/(1<<20), "outlet-MB")
			b.ReportMetric(c.aim, "aim-MB")
		})
	}
}

// quietRSS waits until the daemon has been quiet for long enough to have given
// back what it does not need.
func quietRSS(b *testing.B, d *daemontest.Daemon) int64 {
	b.Helper()
	since := time.Now()
	testutil.Eventually(b, 30*time.Second, func() error {
		if quiet := time.Since(since); quiet < 6*time.Second {
			return fmt.Errorf("quiet for %v", quiet)
		}
		return nil
	})
	return d.RSS()
}
