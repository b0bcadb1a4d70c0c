package probe

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// watcher tells when something appears in a directory. It is a help to be
// quick: where the kernel gives no more watches it tells nothing.
type watcher struct {
	// events gets a value when something appeared; several may be one.
	events chan struct{}

	file *os.File // the kernel's queue; nil: there is none
	done chan struct{}
	// watched are the watches on the directory and on the one it is in, whose
	// path is the same as long as what it leads to is.
	watched map[string]int
}

func newWatcher() *watcher {
	w := &watcher{events: make(chan struct{}, 1), watched: make(map[string]int)}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return w
	}
	w.file = os.NewFile(uintptr(fd), "inotify")
	w.done = make(chan struct{})
	go w.run()
	return w
}

// run passes events on until the queue is closed.
func (w *watcher) run() {
	defer close(w.done)
	buf := make([]byte, 16*(unix.SizeofInotifyEvent+unix.NAME_MAX+1))
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		select {
		case w.events <- struct{}{}:
		default:
		}
	}
}

// appears is what is watched for: the socket being made or moved into place, or
// its mode being set, and the directory being replaced.
const appears = unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_ATTRIB | unix.IN_DELETE_SELF | unix.IN_ONLYDIR

// watch watches dir, or, while it does not exist, the nearest directory above
// that does. Called again it follows what dir has become.
func (w *watcher) watch(dir string) {
	if w.file == nil {
		return
	}
	conn, err := w.file.SyscallConn()
	if err != nil {
		return
	}
	var now []string
	for p := dir; ; p = filepath.Dir(p) {
		var wd int
		err := conn.Control(func(fd uintptr) {
			// The same watch is returned as long as path leads to the same
			// directory.
			wd, err = unix.InotifyAddWatch(int(fd), p, appears)
		})
		now = append(now, p)
		if err == nil && wd >= 0 {
			if old, ok := w.watched[p]; ok && old != wd {
				_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(old)) })
			}
			w.watched[p] = wd
			// dir itself may be replaced, which the directory above tells.
			if p != dir {
				break
			}
		}
		if p == "/" {
			break
		}
	}
	for p, wd := range w.watched {
		if !slices.Contains(now, p) {
			_ = conn.Control(func(fd uintptr) { _, _ = unix.InotifyRmWatch(int(fd), uint32(wd)) })
			delete(w.watched, p)
		}
	}
}

// close ends the watcher and waits for it.
func (w *watcher) close() {
	if w.file == nil {
		return
	}
	_ = w.file.Close()
	<-w.done
}
