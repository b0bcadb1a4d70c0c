package plugins

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// watchSource is inotify, or polling where there is none to be had: the number
// of instances is limited for each user.
type watchSource struct {
	wake func()
	file *os.File
	fd   int
	poll *poller
	done sync.WaitGroup

	// mu guards fd, which must not be used once closed is set.
	mu     sync.Mutex
	closed bool
}

// watched are the changes that can make a definition appear, change or go.
const watched = syscall.IN_CREATE | syscall.IN_MOVED_TO | syscall.IN_CLOSE_WRITE | syscall.IN_DELETE |
	syscall.IN_MOVED_FROM | syscall.IN_ATTRIB | syscall.IN_DELETE_SELF | syscall.IN_ONLYDIR

func newWatchSource(wake func()) *watchSource {
	s := &watchSource{wake: wake}
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil {
		s.poll = newPoller(wake, pollInterval)
		return s
	}
	s.fd, s.file = fd, os.NewFile(uintptr(fd), "inotify")
	s.done.Go(s.read)
	return s
}

// read wakes the sessions. What exactly happened does not matter: they look for
// themselves.
func (s *watchSource) read() {
	buf := make([]byte, 16<<10)
	for {
		if _, err := s.file.Read(buf); err != nil {
			if !errors.Is(err, os.ErrClosed) {
				s.wake()
			}
			return
		}
		s.wake()
	}
}

// cover sees to it that the directories, and below them the one of the name, or
// all of them without a name, are watched; instead of one that does not exist
// the nearest one above it. Doing it again changes nothing.
func (s *watchSource) cover(d dirs, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.file == nil || s.closed {
		return
	}
	for _, dir := range append([]string{d.sockets}, d.specs...) {
		for !s.add(dir) {
			up := filepath.Dir(dir)
			if up == dir {
				break
			}
			dir = up
		}
		if name != "" {
			s.add(filepath.Join(dir, name))
			continue
		}
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			if e.IsDir() {
				s.add(filepath.Join(dir, e.Name()))
			}
		}
	}
}

func (s *watchSource) add(dir string) bool {
	_, err := syscall.InotifyAddWatch(s.fd, dir, watched)
	return err == nil
}

func (s *watchSource) close() {
	if s.poll != nil {
		s.poll.close()
		return
	}
	s.mu.Lock()
	s.closed = true
	_ = s.file.Close() // wakes the reader; there is nothing to lose
	s.mu.Unlock()
	s.done.Wait()
}

// pollInterval is how often to look where the kernel does not tell.
const pollInterval = 500 * time.Millisecond
