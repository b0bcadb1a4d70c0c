package bench

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/client"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// fleet is a daemon with many plugins, all enabled.
type fleet struct {
	b     *testing.B
	d     *daemontest.Daemon
	c     *client.Client
	names []string
}

const fleetSize = 50

// newFleet starts a daemon and creates and enables the plugins, four at a time.
func newFleet(b *testing.B, size int, flags ...string) *fleet {
	b.Helper()
	f := &fleet{b: b, d: daemontest.Start(b, append([]string{"--exec-root", memoryDir(b)}, flags...)...)}
	f.c = connect(b, f.d)
	archive := daemontest.Tar(b, daemontest.Dirvol(b))
	for i := range size {
		f.names = append(f.names, fmt.Sprintf("fleet%d", i))
	}
	each(f.names, func(name string) {
		f.create(name, archive)
		f.enable(name)
	})
	if b.Failed() {
		b.FailNow()
	}
	return f
}

// each calls do for all names, four at a time.
func each(names []string, do func(string)) {
	var wg sync.WaitGroup
	next := make(chan string)
	for range 4 {
		wg.Go(func() {
			for name := range next {
				do(name)
			}
		})
	}
	for _, name := range names {
		next <- name
	}
	close(next)
	wg.Wait()
}

func (f *fleet) create(name, archive string) {
	f.b.Helper()
	in, err := os.Open(archive)
	if err != nil {
		f.b.Error(err)
		return
	}
	defer in.Close()
	if _, _, err := f.c.Create(f.b.Context(), name, in, outlet.CreateOptions{}); err != nil {
		f.b.Error(err)
	}
}

func (f *fleet) enable(name string) {
	f.b.Helper()
	if err := f.c.Enable(f.b.Context(), name, outlet.EnableOptions{}); err != nil {
		f.b.Error(err)
	}
}

func (f *fleet) disable(name string) {
	f.b.Helper()
	if err := f.c.Disable(f.b.Context(), name, false); err != nil {
		f.b.Error(err)
	}
}

func (f *fleet) inspect(name string) outlet.Plugin {
	f.b.Helper()
	p, err := f.c.Inspect(f.b.Context(), name)
	if err != nil {
		f.b.Fatal(err)
	}
	return p
}

// running waits until all plugins run.
func (f *fleet) running() {
	f.b.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for began := time.Now(); ; <-tick.C {
		list, err := f.c.List(f.b.Context(), outlet.ListFilter{})
		if err != nil {
			f.b.Fatal(err)
		}
		n := 0
		for _, p := range list {
			if p.Status.State == outlet.StateRunning {
				n++
			}
		}
		if n == len(f.names) {
			return
		}
		if time.Since(began) > time.Minute {
			f.b.Fatalf("%d of %d plugins run", n, len(f.names))
		}
	}
}
