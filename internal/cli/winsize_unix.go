//go:build unix

package cli

import (
	"os"
	"os/signal"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
)

// watchSize gives the size of a terminal now and whenever it changes, until
// stop is called.
func watchSize(fd int) (sizes <-chan outlet.WindowSize, stop func()) {
	out := make(chan outlet.WindowSize, 1)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, unix.SIGWINCH)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if s, ok := windowSize(fd); ok {
				select {
				case out <- s:
				case <-done:
					return
				}
			}
			select {
			case <-changed:
			case <-done:
				return
			}
		}
	})
	return out, func() {
		signal.Stop(changed)
		close(done)
		wg.Wait()
	}
}
