package api

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// connTable bounds the number of open connections. When there are too many, the
// one that has been idle longest is closed for a new one; if all are busy, new
// ones wait in the kernel's queue.
type connTable struct {
	max   int
	freed chan struct{} // holds a token when a place may be free

	mu   sync.Mutex
	used int                    // places taken
	idle map[net.Conn]time.Time // since when
	open map[net.Conn]struct{}
}

func newConnTable(limit int) *connTable {
	return &connTable{
		max: limit, freed: make(chan struct{}, 1),
		idle: make(map[net.Conn]time.Time), open: make(map[net.Conn]struct{}),
	}
}

// reserve takes a place for a connection to come.
func (t *connTable) reserve(ctx context.Context) error {
	var closed net.Conn
	for {
		if t.tryReserve(&closed) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.freed:
		}
	}
}

// tryReserve takes a place if there is one, and closes a connection to make one
// if not. It leaves the others alone until the place of the one it closed last
// was freed, for that takes a moment.
func (t *connTable) tryReserve(closed *net.Conn) bool {
	t.mu.Lock()
	if t.used < t.max {
		t.used++
		t.mu.Unlock()
		return true
	}
	if *closed != nil {
		if _, ok := t.open[*closed]; ok {
			t.mu.Unlock()
			return false
		}
	}
	var oldest net.Conn
	for c, since := range t.idle {
		if oldest == nil || since.Before(t.idle[oldest]) {
			oldest = c
		}
	}
	delete(t.idle, oldest)
	*closed = oldest
	t.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close() // its place is freed when net/http notices
	}
	return false
}

func (t *connTable) freeLocked() {
	t.used--
	signal(t.freed)
}

// release gives back the place of a connection that net/http does not follow
// any more.
func (t *connTable) release(c net.Conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.idle, c)
	if _, ok := t.open[c]; ok {
		delete(t.open, c)
		t.freeLocked()
	}
}

// state follows what net/http tells of connections.
func (t *connTable) state(c net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		t.mu.Lock()
		t.open[c] = struct{}{}
		t.mu.Unlock()
	case http.StateActive:
		t.mu.Lock()
		delete(t.idle, c)
		t.mu.Unlock()
	case http.StateIdle:
		t.mu.Lock()
		t.idle[c] = time.Now()
		full := t.used >= t.max
		t.mu.Unlock()
		if full {
			signal(t.freed) // there may be somebody to let in instead
		}
	case http.StateClosed:
		t.release(c)
	case http.StateHijacked:
		// Whoever took it releases it.
	}
}

// closeAll cuts every connection.
func (t *connTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.open {
		_ = c.Close()
	}
}

// boundedListener accepts no more connections than there are places.
type boundedListener struct {
	net.Listener
	server *Server
}

// Accept waits for a connection, then for a place for it. The other way round
// an idle connection would be closed for one that may never come.
func (l *boundedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if err := l.server.conns.reserve(l.server.life); err != nil {
		_ = c.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}
