// Package reap waits for processes: those a daemon started, those an earlier
// incarnation of it started, and those nobody else waits for.
//
// A process is waited for through its pidfd, which Go's netpoller watches: 200
// of them cost 200 parked goroutines and no thread. Its exit status comes from
// waitid(2) where we are the parent, else from /proc while it is a zombie, else
// from the pidfd itself where the kernel keeps it there.
//
// It does not start processes and does not decide what happens when one ends.
// It never waits for "any child", so it cannot take an exit status from
// somebody who waits for a certain one (os/exec, go-runc).
package reap

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Config is what a [Reaper] is made of.
type Config struct {
	// Subreaper makes this process the parent of its descendants' orphans
	// (PR_SET_CHILD_SUBREAPER). Exit statuses of containers that end before
	// anybody could look are known only then. It changes the whole process, so
	// a program that embeds the manager decides by itself.
	Subreaper bool
	// Grace is how long a child that ended and that nobody claimed is left
	// alone before it is reaped: somebody in this process may be about to wait
	// for it. 0 is 2 s.
	Grace time.Duration
	// Logger is told of orphans. nil discards.
	Logger *slog.Logger
}

// Reaper waits for processes. Its methods are safe for concurrent use.
type Reaper struct {
	subreaper bool
	grace     time.Duration
	log       *slog.Logger
	previous  int // the subreaper attribute to restore in Close

	watchers sync.WaitGroup

	mu       sync.Mutex
	closed   bool
	holds    int                   // starts under way: nothing is reaped meanwhile
	claimed  map[int]int           // pid → number of those who wait for it
	watched  map[Identity]*Process // those that have not ended
	released chan struct{}         // buffered 1: a hold ended, or a process
}

// New makes a Reaper and, if the configuration says so, makes this process a
// subreaper. Orphans are reaped while [Reaper.Run] runs.
func New(cfg Config) (*Reaper, error) {
	r := &Reaper{
		subreaper: cfg.Subreaper,
		grace:     cfg.Grace,
		log:       cfg.Logger,
		claimed:   make(map[int]int),
		watched:   make(map[Identity]*Process),
		released:  make(chan struct{}, 1),
	}
	if r.grace <= 0 {
		r.grace = 2 * time.Second
	}
	if r.log == nil {
		r.log = slog.New(slog.DiscardHandler)
	}
	if !cfg.Subreaper {
		return r, nil
	}
	var previous int32
	if err := prctlGetSubreaper(&previous); err != nil {
		return nil, fmt.Errorf("read the subreaper attribute: %w", err)
	}
	r.previous = int(previous)
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become a subreaper: %w", err)
	}
	return r, nil
}

// Subreaper says whether orphans of this process' descendants become its
// children.
func (r *Reaper) Subreaper() bool { return r.subreaper }

// Close ends all watching, waits for its goroutines and gives the subreaper
// attribute back. The processes go on; Done of those that live is never closed.
func (r *Reaper) Close() error {
	r.mu.Lock()
	r.closed = true
	for _, p := range r.watched {
		p.release()
	}
	r.mu.Unlock()
	r.watchers.Wait()
	if r.subreaper && r.previous == 0 {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0); err != nil {
			return fmt.Errorf("stop being a subreaper: %w", err)
		}
	}
	return nil
}

// Hold keeps every orphan from being reaped until release is called. It covers
// the time between a process' start and the moment its pid is known and
// watched; holds may overlap.
func (r *Reaper) Hold() (release func()) {
	r.mu.Lock()
	r.holds++
	r.mu.Unlock()
	return sync.OnceFunc(func() {
		r.mu.Lock()
		r.holds--
		r.mu.Unlock()
		r.wake()
	})
}

// Claim says that somebody else waits for the child pid, until release is
// called.
func (r *Reaper) Claim(pid int) (release func()) {
	r.mu.Lock()
	r.claimed[pid]++
	r.mu.Unlock()
	return sync.OnceFunc(func() {
		r.mu.Lock()
		r.unclaimLocked(pid)
		r.mu.Unlock()
		r.wake()
	})
}

func (r *Reaper) unclaimLocked(pid int) {
	if r.claimed[pid]--; r.claimed[pid] <= 0 {
		delete(r.claimed, pid)
	}
}

func (r *Reaper) wake() {
	select {
	case r.released <- struct{}{}:
	default: // it is woken already
	}
}

// Run reaps children that ended and that nobody waits for, until ctx ends: what
// a plugin that shares the host's process ids leaves behind. Without Subreaper
// there are none, and Run only waits.
func (r *Reaper) Run(ctx context.Context) error {
	if !r.subreaper {
		<-ctx.Done()
		return nil
	}
	sigchld := make(chan os.Signal, 1)
	signal.Notify(sigchld, unix.SIGCHLD)
	defer signal.Stop(sigchld)

	// Signals come in bursts: a look is taken a little later, and again as long
	// as there is somebody to look at.
	o := orphans{reaper: r, seen: make(map[Identity]sighting)}
	timer := time.NewTimer(0)
	defer timer.Stop()
	armed := true // later signals do not put off a look
	for {
		again := false
		select {
		case <-ctx.Done():
			return nil
		case <-sigchld:
			again = true
		case <-r.released:
			again = true
		case now := <-timer.C:
			armed = false
			again = o.sweep(now)
		}
		if again && !armed {
			timer.Reset(o.delay())
			armed = true
		}
	}
}

// busy reports whether orphans must not be touched, or the pid has somebody who
// waits for it.
func (r *Reaper) busy(pid int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.holds > 0 || r.claimed[pid] > 0
}
