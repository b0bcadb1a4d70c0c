package store

import (
	"context"
	"sync"
)

// underWay counts changes from their begin to their end, for who must not look in
// the middle of one. The zero value is ready.
type underWay struct {
	mu      sync.Mutex
	running map[chan struct{}]struct{} // each is closed when the change has ended
	begun   uint64
}

// begin is called before a change, what it returns after it.
func (u *underWay) begin() (end func()) {
	done := make(chan struct{})
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.running == nil {
		u.running = map[chan struct{}]struct{}{}
	}
	u.running[done] = struct{}{}
	u.begun++
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		delete(u.running, done)
		close(done)
	}
}

// wait waits for the changes that have begun by now, not for later ones.
func (u *underWay) wait(ctx context.Context) error {
	u.mu.Lock()
	running := make([]chan struct{}, 0, len(u.running))
	for done := range u.running {
		running = append(running, done)
	}
	u.mu.Unlock()
	for _, done := range running {
		select {
		case <-done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// calm says whether there are none, and how many there have been: nothing changes
// between two calm moments with the same number.
func (u *underWay) calm() (begun uint64, calm bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.begun, len(u.running) == 0
}
