package volumes

import (
	"context"
	"fmt"
	"sync"
)

// locks are locks by name that are waited for under a context. The zero value
// is ready.
type locks struct {
	mu sync.Mutex
	m  map[string]*lock
}

type lock struct {
	free  chan struct{} // holds a token while the lock is free
	users int           // those who hold it or wait for it
}

// lock waits until nobody else has the lock of the name, and returns what gives
// it back.
func (l *locks) lock(ctx context.Context, name string) (unlock func(), err error) {
	l.mu.Lock()
	if l.m == nil {
		l.m = make(map[string]*lock)
	}
	k, ok := l.m[name]
	if !ok {
		k = &lock{free: make(chan struct{}, 1)}
		k.free <- struct{}{}
		l.m[name] = k
	}
	k.users++
	l.mu.Unlock()

	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if k.users--; k.users == 0 {
			delete(l.m, name)
		}
	}
	select {
	case <-k.free:
		return func() {
			k.free <- struct{}{}
			leave()
		}, nil
	case <-ctx.Done():
		leave()
		return nil, fmt.Errorf("volume %s is busy: %w", name, ctx.Err())
	}
}
