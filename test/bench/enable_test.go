package bench

import (
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
)

// BenchmarkEnable measures enabling a plugin (API call until the answer) beside
// `runc run` of the same bundle until its socket accepts and the commit that
// remembers it: alone, and with fifty others enabled.
func BenchmarkEnable(b *testing.B) {
	for name, size := range map[string]int{"alone": 1, "fifty": fleetSize} {
		b.Run(name, func(b *testing.B) {
			f := newFleet(b, size)
			limit := newRuncLimit(b, f.d, "fleet0", nil)
			store := newSyncs(b, testutil.TempDir(b))
			f.disable("fleet0")
			compare(b, 1.3, func() time.Duration {
				took := timed(func() { f.enable("fleet0") })
				f.disable("fleet0")
				return took
			}, func() time.Duration {
				began := time.Now()
				r := limit.run(b)
				store.commit(b)
				took := time.Since(began)
				r.end()
				return took
			})
			f.enable("fleet0")
		})
	}
}

// BenchmarkFirstKill measures from SIGKILL of a plugin that was just enabled
// until its socket accepts again, beside the limit of an enable.
func BenchmarkFirstKill(b *testing.B) {
	f := newFleet(b, 1)
	limit := newRuncLimit(b, f.d, "fleet0", nil)
	store := newSyncs(b, testutil.TempDir(b))
	f.disable("fleet0")
	compare(b, 1.5, func() time.Duration {
		f.enable("fleet0") // forgets that it was killed before
		p := f.inspect("fleet0")
		took := timed(func() {
			killed(b, p.Status.PID)
			if err := accepts(p.Status.Socket); err != nil {
				b.Fatal(err)
			}
		})
		f.running()
		f.disable("fleet0")
		return took
	}, func() time.Duration {
		began := time.Now()
		r := limit.run(b)
		store.commit(b)
		took := time.Since(began)
		r.end()
		return took
	})
	f.enable("fleet0")
}
