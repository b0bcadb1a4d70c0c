package plugins

import (
	"context"
	"sync"
	"time"
)

// A pool keeps idle connections to one plugin.
type pool struct {
	max     int
	timeout time.Duration

	// mu guards what follows. It is never held while a connection is used.
	mu sync.Mutex
	// idle has the connections used last at its end, and those are taken first:
	// the fewer are in use the sooner the others time out.
	idle   []*conn
	timer  *time.Timer
	closed bool
}

// get returns an idle connection that is still good, or nil.
func (p *pool) get() *conn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if time.Since(c.idleSince) < p.timeout && c.alive() {
			return c
		}
		c.close()
	}
}

// put keeps c for later calls, or closes it where there are enough.
func (p *pool) put(c *conn) {
	c.rest()
	p.mu.Lock()
	if p.closed || len(p.idle) >= p.max {
		p.mu.Unlock()
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	if p.timer == nil {
		p.timer = time.AfterFunc(p.timeout, p.expire)
	}
	p.mu.Unlock()
}

// expire closes what was idle for too long, and comes back while there is more.
func (p *pool) expire() {
	now := time.Now()
	p.mu.Lock()
	n := 0
	for n < len(p.idle) && now.Sub(p.idle[n].idleSince) >= p.timeout {
		n++
	}
	old := append([]*conn(nil), p.idle[:n]...)
	p.idle = append(p.idle[:0], p.idle[n:]...)
	clear(p.idle[len(p.idle) : len(p.idle)+n])
	switch {
	case p.closed || len(p.idle) == 0:
		p.timer = nil
	default:
		p.timer.Reset(max(p.timeout-now.Sub(p.idle[0].idleSince), time.Millisecond))
	}
	p.mu.Unlock()
	for _, c := range old {
		c.close()
	}
}

// drop closes all idle connections, and for good if last is set.
func (p *pool) drop(last bool) {
	p.mu.Lock()
	idle := p.idle
	p.idle = nil
	p.closed = p.closed || last
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.mu.Unlock()
	for _, c := range idle {
		c.close()
	}
}

func (p *pool) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
