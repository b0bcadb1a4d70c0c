package plugins

import (
	"sync"
	"time"
)

// A poller calls wake at regular times.
type poller struct {
	stop chan struct{}
	done sync.WaitGroup
}

func newPoller(wake func(), every time.Duration) *poller {
	p := &poller{stop: make(chan struct{})}
	p.done.Go(func() {
		t := time.NewTicker(every)
		defer t.Stop()
		for {
			select {
			case <-p.stop:
				return
			case <-t.C:
				wake()
			}
		}
	})
	return p
}

func (p *poller) close() {
	close(p.stop)
	p.done.Wait()
}
