package pluginlog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Picker follows what plugins print: one goroutine and one watch of the kernel
// for all logs that name it. Idle logs cost it nothing.
type Picker struct {
	logger *slog.Logger
	queue  *os.File        // of the kernel's events
	spare  *os.File        // the other end of queue where that is a pipe
	conn   syscall.RawConn // of queue; nil: there are no watches
	stop   chan struct{}
	done   chan struct{}
	pool   sync.Pool // of *buffers

	mu sync.Mutex
	// logs are those that are followed, with when to come back to each; zero:
	// an event will tell.
	logs    map[*Log]time.Time
	watches map[int32]*Log
	closed  bool
}

// NewPicker returns a picker that runs until [Picker.Close]. A nil logger
// discards.
func NewPicker(logger *slog.Logger) (*Picker, error) {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	p := &Picker{
		logger:  logger,
		stop:    make(chan struct{}),
		done:    make(chan struct{}),
		pool:    sync.Pool{New: func() any { return new(buffers) }},
		logs:    make(map[*Log]time.Time),
		watches: make(map[int32]*Log),
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		p.queue = os.NewFile(uintptr(fd), "inotify")
		if p.conn, err = p.queue.SyscallConn(); err != nil {
			return nil, errors.Join(err, p.queue.Close())
		}
	} else {
		logger.Warn("the output of plugins cannot be watched and is looked at four times a second", "error", err)
		// A pipe into which nobody writes: waiting works the same.
		if p.queue, p.spare, err = os.Pipe(); err != nil {
			return nil, fmt.Errorf("follow the output of plugins: %w", err)
		}
	}
	go p.run()
	return p, nil
}

// Close ends the picker and waits for it. Close the logs first.
func (p *Picker) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	close(p.stop)
	err := p.queue.Close()
	<-p.done
	if p.spare != nil {
		err = errors.Join(err, p.spare.Close())
	}
	return err
}

// gap is the least time between two passes: a plugin that prints line after
// line makes an event for each, and many are picked up together.
const gap = 5 * time.Millisecond

// run passes over the logs that have something new, until the picker is closed.
func (p *Picker) run() {
	defer close(p.done)
	events := make([]byte, 4096)
	pause := time.NewTimer(gap)
	defer pause.Stop()
	for {
		p.arm()
		n, err := p.queue.Read(events)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return // closed
		}
		for _, l := range p.ready(events[:max(n, 0)], time.Now()) {
			p.again(l, l.wake())
		}
		pause.Reset(gap)
		select {
		case <-pause.C:
		case <-p.stop:
			return
		}
	}
}

// arm bounds the coming wait for events by when the first log is due.
func (p *Picker) arm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var next time.Time
	for _, at := range p.logs {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	_ = p.queue.SetReadDeadline(next)
}

// ready returns the logs that events are for, and those that are due.
func (p *Picker) ready(events []byte, now time.Time) []*Log {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		events = events[min(len(events), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(events[12:]))):]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for l := range p.logs {
				p.logs[l] = now
			}
			continue
		}
		if l, ok := p.watches[wd]; ok {
			p.logs[l] = now
		}
	}
	var ready []*Log
	for l, at := range p.logs {
		if !at.IsZero() && !at.After(now) {
			p.logs[l] = time.Time{}
			ready = append(ready, l)
		}
	}
	return ready
}

// again has a log passed over at a time, unless it is due earlier already; zero
// changes nothing.
func (p *Picker) again(l *Log, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old, followed := p.logs[l]
	if !followed || at.IsZero() || p.closed || !old.IsZero() && old.Before(at) {
		return
	}
	p.logs[l] = at
	_ = p.queue.SetReadDeadline(at)
}

// follow adds a raw file of a log. It returns the watch, negative where the
// kernel gives none.
func (p *Picker) follow(l *Log, path string) int32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.logs[l]; !ok {
		p.logs[l] = time.Time{}
	}
	if p.conn == nil {
		return -1
	}
	wd, errno := -1, error(nil)
	err := p.conn.Control(func(fd uintptr) { wd, errno = unix.InotifyAddWatch(int(fd), path, unix.IN_MODIFY) })
	if err = errors.Join(err, errno); err != nil {
		p.logger.Warn("a plugin's output cannot be watched and is looked at four times a second", "file", path, "error", err)
		return -1
	}
	p.watches[int32(wd)] = l
	return int32(wd)
}

// forget ends a watch.
func (p *Picker) forget(wd int32) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.watches[wd]; !ok {
		return
	}
	delete(p.watches, wd)
	if p.closed {
		return
	}
	_ = p.conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
}

// leave has a log not passed over any more.
func (p *Picker) leave(l *Log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.logs, l)
}

func (p *Picker) buffers() *buffers     { return p.pool.Get().(*buffers) }
func (p *Picker) putBuffers(b *buffers) { p.pool.Put(b) }
