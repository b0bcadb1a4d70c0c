package manager

import (
	"context"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// busyAfter is how long an operation waits for another one on the same plugin
// before it is refused (docs/spec/engine-api.md §5.3).
const busyAfter = 10 * time.Second

// opLock serialises what users do to one plugin. Unlike a mutex it can be
// waited for with a context, and it knows who holds it.
type opLock struct {
	sem chan struct{}

	mu sync.Mutex
	op string
}

func newOpLock() *opLock { return &opLock{sem: make(chan struct{}, 1)} }

// lock takes the lock for op on the plugin called name. After [busyAfter] it
// gives up with errdefs.ErrConflict, naming the operation that runs.
func (l *opLock) lock(ctx context.Context, name, op string) (unlock func(), err error) {
	select {
	case l.sem <- struct{}{}:
	default:
		t := time.NewTimer(busyAfter)
		defer t.Stop()
		select {
		case l.sem <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-t.C:
			l.mu.Lock()
			defer l.mu.Unlock()
			return nil, outlet.Errorf(errdefs.ErrConflict, "plugin %s is busy: %s", name, l.op)
		}
	}
	l.mu.Lock()
	l.op = op
	l.mu.Unlock()
	return func() { <-l.sem }, nil
}
