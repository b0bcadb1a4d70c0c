package chroot

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
)

// container is what is known of a container, running or not.
type container struct {
	runtime *Runtime
	id      string
	note    note
}

// Waiting for processes to be gone begins with the first delay, doubled up to
// the last.
const (
	firstDelay = 200 * time.Microsecond
	lastDelay  = 50 * time.Millisecond
)

// members returns the container's processes that are no zombies: those whose
// root directory is in its root filesystem, and the descendants and session of
// its main process.
func (c *container) members() (map[int]reap.Stat, error) {
	all, err := reap.Processes()
	if err != nil {
		return nil, err
	}
	inside := make(map[int]reap.Stat)
	init := 0
	if c.note.Init != nil {
		if st, ok := all[c.note.Init.PID]; ok && st.Start == c.note.Init.Start {
			init = c.note.Init.PID
		}
	}
	for pid, st := range all {
		root, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/root")
		in := err == nil && c.note.Rootfs != "" && (root == c.note.Rootfs || strings.HasPrefix(root, c.note.Rootfs+"/"))
		if in || init != 0 && (pid == init || st.Session == init) {
			inside[pid] = st
		}
	}
	for more := true; more; {
		more = false
		for pid, st := range all {
			if _, known := inside[pid]; known {
				continue
			}
			if _, ok := inside[st.Parent]; ok {
				inside[pid], more = st, true
			}
		}
	}
	for pid, st := range inside {
		if st.State == 'Z' || st.State == 'X' || pid == os.Getpid() {
			delete(inside, pid)
		}
	}
	return inside, nil
}

// kill ends every process of the container and returns when none is left. p is
// its main process, nil if it is not watched.
func (c *container) kill(ctx context.Context, p *reap.Process) error {
	if p == nil && c.note.Init != nil && c.note.Exit == nil {
		if q, err := c.runtime.cfg.Reaper.Watch(*c.note.Init, nil); err == nil {
			p = q
		}
	}
	var done <-chan struct{} // nil once the main process has ended
	if p != nil {
		done = p.Done()
		// An error says that it ended already.
		_ = p.Signal(unix.SIGKILL)
	}
	var held reap.Members
	defer held.Release(c.runtime.cfg.Reaper)
	delay := firstDelay
	for try := 0; ; try++ {
		select {
		case <-done:
			done = nil
		default:
		}
		members, err := c.members()
		if err != nil {
			return fmt.Errorf("kill %s: %w", c.id, err)
		}
		if len(members) == 0 && done == nil {
			return nil
		}
		pids := make([]int, 0, len(members))
		for pid := range members {
			pids = append(pids, pid)
		}
		held.Add(pids)
		if try > 2 {
			// They fork faster than they are killed: stop them first.
			signalAll(pids, unix.SIGSTOP)
			if again, err := c.members(); err == nil {
				for pid := range again {
					pids = append(pids, pid)
				}
			}
		}
		signalAll(pids, unix.SIGKILL)
		if err := wait(ctx, done, delay); err != nil {
			return fmt.Errorf("kill %s: %w", c.id, err)
		}
		delay = min(2*delay, lastDelay)
	}
}

func signalAll(pids []int, sig unix.Signal) {
	for _, pid := range pids {
		_ = unix.Kill(pid, sig) // those that are still there are found again
	}
}

// wait waits for d, for done or for the end of ctx.
func wait(ctx context.Context, done <-chan struct{}, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-done:
	case <-t.C:
	}
	return nil
}

// remove puts the directories back and forgets the container.
func (c *container) remove() error {
	for _, l := range c.note.Links {
		if err := l.undo(); err != nil {
			return err
		}
	}
	// The note goes last: as long as it is there, this can be done again.
	return c.runtime.forget(c.id)
}

// watch makes the task of a container whose main process is known.
func (c *container) watch() (*task, error) {
	t := &task{container: c}
	if c.note.Exit != nil {
		t.ended = *c.note.Exit
		return t, nil
	}
	p, err := c.runtime.cfg.Reaper.Watch(*c.note.Init, c.onExit)
	if errdefs.IsNotFound(err) {
		// It ended, and nobody who could say how was there.
		t.ended = outlet.Exit{Code: -1, At: time.Now()}
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	t.process = p
	return t, nil
}

// onExit keeps how the main process ended for a successor.
func (c *container) onExit(exit *outlet.Exit) {
	if err := c.runtime.noteExit(c.id, *c.note.Init, *exit); err != nil {
		c.runtime.log.Warn("keep the exit status of a container", "id", c.id, "error", err)
	}
}
