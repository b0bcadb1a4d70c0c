package reap

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Members are processes of one container that are being ended: held by pidfd, so
// that neither a signal nor a wait can reach another process that got the same
// pid. The zero value is ready; it is for one goroutine.
type Members struct {
	pidfds map[int]int // pid → pidfd
}

// Add takes the processes in. Those that do not exist are left out, and so are
// those for which there is no descriptor: [Reaper.Run] reaps them later.
func (m *Members) Add(pids []int) {
	for _, pid := range pids {
		if _, known := m.pidfds[pid]; known {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if m.pidfds == nil {
			m.pidfds = make(map[int]int)
		}
		m.pidfds[pid] = fd
	}
}

// Release reaps those that ended and became children of this process, for
// nobody else waits for what ran in a container, and lets go of all.
func (m *Members) Release(r *Reaper) {
	for pid, fd := range m.pidfds {
		r.reapMember(pid, fd)
		_ = unix.Close(fd)
	}
	m.pidfds = nil
}

func (r *Reaper) reapMember(pid, pidfd int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.claimed[pid] > 0 {
		return // watched: its status is for the one who watches
	}
	_, err := waitPidfd(pidfd)
	if err != nil && !errors.Is(err, unix.ECHILD) && !errors.Is(err, unix.EAGAIN) {
		r.log.Debug("reap a process of a container", "pid", pid, "error", err)
	}
}
