package probe

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// watcher is one inotify queue for any number of waits. It is a help to be
// quick: where the kernel gives no queue or no more watches it tells nothing.
type watcher struct {
	file *os.File        // the queue; nil: there is none
	conn syscall.RawConn // of file
	done chan struct{}   // closed when run has ended

	mu    sync.Mutex
	waits map[int32]map[*watch]bool // by watch descriptor
}

// watch is what one wait watches.
type watch struct {
	w *watcher
	// events gets a value when something appeared; several may be one.
	events chan struct{}
	// at are the descriptors of the directories that are watched, by path.
	at map[string]int32
}

func newWatcher() *watcher {
	w := &watcher{waits: make(map[int32]map[*watch]bool)}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	file := os.NewFile(uintptr(fd), "inotify")
	conn, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return w
	}
	w.file, w.conn, w.done = file, conn, make(chan struct{})
	go w.run()
	return w
}

// close ends the watcher and waits for it. The kernel takes some 10 ms for it.
func (w *watcher) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	<-w.done
	return err
}

// run passes events on until the queue is closed.
func (w *watcher) run() {
	defer close(w.done)
	buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		n, err := w.file.Read(buf)
		if err != nil {
			return
		}
		w.pass(buf[:n])
	}
}

// pass wakes the waits that events are for.
func (w *watcher) pass(events []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(events) >= unix.SizeofInotifyEvent {
		wd := int32(binary.NativeEndian.Uint32(events))
		mask := binary.NativeEndian.Uint32(events[4:])
		events = events[min(len(events), unix.SizeofInotifyEvent+int(binary.NativeEndian.Uint32(events[12:]))):]
		if mask&unix.IN_Q_OVERFLOW != 0 {
			for _, waits := range w.waits {
				wake(waits)
			}
			continue
		}
		wake(w.waits[wd])
		if mask&unix.IN_IGNORED != 0 { // the directory is gone
			delete(w.waits, wd)
		}
	}
}

func wake(waits map[*watch]bool) {
	for h := range waits {
		select {
		case h.events <- struct{}{}:
		default:
		}
	}
}

// appears is what is watched for: the socket being made or moved into place, or
// its mode being set, and the directory being replaced.
const appears = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_ONLYDIR

func (w *watcher) newWatch() *watch {
	return &watch{w: w, events: make(chan struct{}, 1), at: make(map[string]int32)}
}

// update watches dir and the nearest directory above it that exists, which
// tells when dir is made or replaced. Called again it follows what dir has
// become.
func (h *watch) update(dir string) {
	w := h.w
	if w.file == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := make(map[string]int32, 2)
	for p := dir; ; p = filepath.Dir(p) {
		// The same descriptor is returned for as long as p leads to the same
		// directory.
		if wd, ok := w.addLocked(p); ok {
			now[p] = wd
			if p != dir {
				break
			}
		}
		if p == "/" {
			break
		}
	}
	before := h.at
	h.at = now
	for _, wd := range now {
		if w.waits[wd] == nil {
			w.waits[wd] = make(map[*watch]bool)
		}
		w.waits[wd][h] = true
	}
	h.leaveLocked(before)
}

func (w *watcher) addLocked(dir string) (int32, bool) {
	wd := -1
	err := w.conn.Control(func(fd uintptr) {
		if got, err := unix.InotifyAddWatch(int(fd), dir, appears); err == nil {
			wd = got
		}
	})
	return int32(wd), err == nil && wd >= 0
}

// leaveLocked gives up those of the watches before that are not wanted now.
func (h *watch) leaveLocked(before map[string]int32) {
	wanted := make(map[int32]bool, len(h.at))
	for _, wd := range h.at {
		wanted[wd] = true
	}
	for _, wd := range before {
		waits := h.w.waits[wd]
		if wanted[wd] || waits == nil {
			continue
		}
		delete(waits, h)
		if len(waits) > 0 {
			continue
		}
		delete(h.w.waits, wd)
		_ = h.w.conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
	}
}

// close gives up all watches.
func (h *watch) close() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	before := h.at
	h.at = nil
	h.leaveLocked(before)
}
