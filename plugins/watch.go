package plugins

import (
	"context"
	"sync"
)

// A watcher tells waiters that something changed in the plugin directories. It
// runs while there are sessions and not otherwise. The zero value is ready.
type watcher struct {
	// mu guards what follows.
	mu       sync.Mutex
	sessions int
	source   *watchSource
	changed  chan struct{}
}

// A session is one waiter's. Its methods are called by one goroutine.
type session struct {
	w    *watcher
	dirs dirs
	name string
}

// open starts to watch the directories, and what they have for name, which is
// empty for everything.
func (w *watcher) open(d dirs, name string) *session {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions++
	if w.changed == nil {
		w.changed = make(chan struct{})
	}
	if w.source == nil {
		w.source = newWatchSource(w.wake)
	}
	return &session{w, d, name}
}

// wake tells all sessions that there was a change.
func (w *watcher) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.changed != nil {
		close(w.changed)
		w.changed = make(chan struct{})
	}
}

// next returns a channel that is closed at the first change from now on. What
// changed before it was called is for the caller to find out afterwards.
func (s *session) next() <-chan struct{} {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.w.source.cover(s.dirs, s.name)
	return s.w.changed
}

// close ends the session; the last one ends the watching.
func (s *session) close() {
	s.w.mu.Lock()
	s.w.sessions--
	var source *watchSource
	if s.w.sessions == 0 {
		source, s.w.source = s.w.source, nil
	}
	s.w.mu.Unlock()
	if source != nil {
		source.close()
	}
}

// Watch calls changed once when it has begun to watch the plugin directories,
// and whenever something changes in them, once for several changes in quick
// succession, until ctx ends. Who reads the directories in changed, and not
// before, misses nothing. It returns nil when ctx ends, and an error that matches
// ErrClosed if the registry was closed.
func (r *Registry) Watch(ctx context.Context, changed func()) error {
	s := r.watch.open(r.dirs(), "")
	defer s.close()
	event := s.next()
	changed()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.life.Done():
			return r.alive(ctx)
		case <-event:
			event = s.next()
			changed()
		}
	}
}
