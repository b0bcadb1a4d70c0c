package manager

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A collection that failed is tried again, after delays that double.
const (
	firstCollectRetry = time.Second
	lastCollectRetry  = time.Minute
)

// collections are those that were asked for, and how far they are.
type collections struct {
	due chan struct{} // has room for one

	mu           sync.Mutex
	asked, tried uint64        // of those asked for, the first tried have been seen to
	changed      chan struct{} // closed when tried is
}

func newCollections() collections {
	return collections{due: make(chan struct{}, 1), changed: make(chan struct{})}
}

// begin returns what a collection that begins now sees to.
func (c *collections) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked
}

// end says how far they are after one that ended, well or not.
func (c *collections) end(n uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tried = n
	close(c.changed)
	c.changed = make(chan struct{})
}

// pending returns a channel that is closed when something changed, nil if
// nothing that is among the first n is under way or still to begin.
func (c *collections) pending(n uint64) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tried >= n {
		return nil
	}
	return c.changed
}

// collectGarbage asks for a collection, which runs in the background.
func (m *Manager) collectGarbage() {
	m.gc.mu.Lock()
	m.gc.asked++
	m.gc.mu.Unlock()
	select {
	case m.gc.due <- struct{}{}:
	default: // one is due already, and will see what is garbage now
	}
}

// collected waits until the collections that were asked for have ended. One that
// failed is not waited for again: what it left is there to be seen.
func (m *Manager) collected(ctx context.Context) error {
	asked := m.gc.begin()
	for {
		changed := m.gc.pending(asked)
		if changed == nil {
			return nil
		}
		select {
		case <-changed:
		case <-m.ctx.Done():
			return errClosed
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *Manager) runGC() {
	retry := time.NewTimer(firstCollectRetry)
	retry.Stop()
	defer retry.Stop()
	delay := firstCollectRetry
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.gc.due:
		case <-retry.C:
		}
		asked := m.gc.begin()
		// A collection is short, and containerd's leaks a goroutine when it is
		// interrupted.
		st, err := m.store.GC(context.WithoutCancel(m.ctx))
		m.gc.end(asked)
		if err != nil {
			m.log.Warn("garbage collection", "err", err, "again_in", delay)
			retry.Reset(delay)
			delay = min(2*delay, lastCollectRetry)
		} else {
			retry.Stop()
			delay = firstCollectRetry
			m.log.Debug("garbage collection", "blobs", st.Blobs, "bytes", st.Bytes, "snapshots", st.Snapshots, "took", st.Elapsed)
		}
	}
}

// CollectGarbage removes content that no plugin uses, and waits for it.
func (m *Manager) CollectGarbage(ctx context.Context) error {
	if _, err := m.store.GC(context.WithoutCancel(ctx)); err != nil { // as in runGC
		return fmt.Errorf("garbage collection: %w", err)
	}
	return nil
}
