package reap

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Members are processes of one container that are being ended: held by pidfd, so
// that neither a signal nor a wait can reach another process that got the same
// pid. The zero value is ready; it is for one goroutine.
type Members struct {
	pidfds map[member]int
}

type member struct {
	pid   int
	start uint64 // 0: whoever had the pid when it was taken in
}

// Add takes the processes in. Those that do not exist are left out, and so are
// those for which there is no descriptor: [Reaper.Run] reaps them later.
func (m *Members) Add(pids []int) {
	for _, pid := range pids {
		_, _ = m.add(member{pid: pid}) // as said
	}
}

func (m *Members) add(who member) (pidfd int, err error) {
	if fd, known := m.pidfds[who]; known {
		return fd, nil
	}
	fd, err := unix.PidfdOpen(who.pid, 0)
	if err != nil {
		return -1, err
	}
	if m.pidfds == nil {
		m.pidfds = make(map[member]int)
	}
	m.pidfds[who] = fd
	return fd, nil
}

// Signal takes in the process that had the pid and this start time when it was
// found, and sends it a signal. If it has ended meanwhile nothing is sent,
// whoever has its pid now.
func (m *Members) Signal(pid int, start uint64, sig unix.Signal) error {
	fd, openErr := m.add(member{pid, start})
	// After it is held: what has the start time now is what is held.
	now, err := ReadStat(pid)
	if err != nil || now.Start != start {
		return nil //nolint:nilerr // it has ended
	}
	if openErr != nil { // no descriptors left, above all
		err = unix.Kill(pid, sig)
	} else {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("signal %d to process %d: %w", int(sig), pid, err)
	}
	return nil
}

// Release reaps those that ended and became children of this process, for
// nobody else waits for what ran in a container, and lets go of all.
func (m *Members) Release(r *Reaper) {
	for who, fd := range m.pidfds {
		r.reapMember(who.pid, fd)
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
