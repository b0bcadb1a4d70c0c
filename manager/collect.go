package manager

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/outletd/outlet/internal/store"
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
	asked, tried uint64              // of those asked for, the first tried have been seen to
	expected     map[uint64]struct{} // numbers of those that will be asked for
	numbers      uint64              // how many of those there have been
	changed      chan struct{}       // closed when tried or expected is
}

func newCollections() collections {
	return collections{due: make(chan struct{}, 1), expected: make(map[uint64]struct{}), changed: make(chan struct{})}
}

// expect says that what its caller is about to give up is garbage from then on,
// and that it asks for a collection before it calls asked. Until that, a check
// waits: between the two it would find what nobody holds and nobody collects.
func (c *collections) expect() (asked func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.numbers
	c.numbers++
	c.expected[n] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.expected, n)
		c.change()
	}
}

// change tells those who wait; c.mu is held.
func (c *collections) change() {
	close(c.changed)
	c.changed = make(chan struct{})
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
	c.change()
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

// unasked is pending for what was expected before the number n was given.
func (c *collections) unasked(n uint64) <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := range c.expected {
		if e < n {
			return c.changed
		}
	}
	return nil
}

// number is that of the next that is expected.
func (c *collections) number() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.numbers
}

// calm says whether no collection is expected, due or under way, and returns a
// number that is another one once that was not so for a moment.
func (c *collections) calm() (moment uint64, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.numbers + c.asked, len(c.expected) == 0 && c.tried >= c.asked
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

// collected waits until the collections that were asked for have ended, and so
// have those that are expected. One that failed is not waited for again: what it
// left is there to be seen.
func (m *Manager) collected(ctx context.Context) error {
	n := m.gc.number()
	if err := m.awaitGC(ctx, func() <-chan struct{} { return m.gc.unasked(n) }); err != nil {
		return err
	}
	asked := m.gc.begin()
	return m.awaitGC(ctx, func() <-chan struct{} { return m.gc.pending(asked) })
}

// awaitGC waits until pending says that there is nothing to wait for.
func (m *Manager) awaitGC(ctx context.Context, pending func() <-chan struct{}) error {
	for {
		changed := pending()
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
		st, err := m.collect(m.ctx)
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

// collect removes what nobody needs any more, after what kept it only because
// that could not be written down before.
func (m *Manager) collect(ctx context.Context) (store.GCStats, error) {
	// A collection is short, and containerd's leaks a goroutine when it is
	// interrupted.
	ctx = context.WithoutCancel(ctx)
	unsettled := m.settleUpgrades(ctx)
	st, err := m.store.GC(ctx)
	return st, errors.Join(unsettled, err)
}

// CollectGarbage removes content that no plugin uses, and waits for it.
func (m *Manager) CollectGarbage(ctx context.Context) error {
	if _, err := m.collect(ctx); err != nil {
		return fmt.Errorf("garbage collection: %w", err)
	}
	return nil
}
