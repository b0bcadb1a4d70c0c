package chroot

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/contained"
)

// note is what is kept of a container on disk. That it is not synced does not
// matter for the links either: they are found by looking.
type note struct {
	contained.Note
	// Rootfs has no symbolic links: it is what /proc shows as the root of the
	// container's processes.
	Rootfs string `json:"rootfs"`
	Links  []link `json:"links,omitempty"`
}

// container is what is known of a container, running or not. It is a
// [contained.Container].
type container struct {
	runtime *Runtime
	id      string
	note    note
}

// load returns what is known of a container. fs.ErrNotExist: nothing.
func (r *Runtime) load(id string) (contained.Container, error) {
	c := &container{runtime: r, id: id}
	if err := r.base.Notes.Read(id, &c.note); err != nil {
		return nil, err
	}
	return c, nil
}

// Common is the part of the note that all runtimes have.
func (c *container) Common() *contained.Note { return &c.note.Note }

// Settle has nothing to wait for: this process alone starts containers.
func (c *container) Settle(context.Context) (started bool, err error) { return c.note.Init != nil, nil }

// Explain has nothing to add.
func (c *container) Explain(*outlet.Exit) {}

// members returns the container's processes that are no zombies: those whose
// root directory is in its root filesystem, and the descendants and session of
// its main process.
func (c *container) members() (map[int]reap.Stat, error) {
	all, err := reap.Processes()
	if err != nil {
		return nil, err
	}
	inside := make(map[int]reap.Stat)
	init := 0 // as long as it exists, its session's number is nobody else's
	if c.note.Init != nil {
		pid := c.note.Init.PID
		if id, err := reap.NewIdentity(pid, all[pid].Start); err == nil && id == *c.note.Init {
			init = pid
		}
	}
	for pid, st := range all {
		root, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/root")
		in := err == nil && c.note.Rootfs != "" && (root == c.note.Rootfs || strings.HasPrefix(root, c.note.Rootfs+"/"))
		if in || init != 0 && (pid == init || st.Session == init) {
			inside[pid] = st
		}
	}
	addDescendants(inside, all, func(pid int) (uint64, error) {
		st, err := reap.ReadStat(pid)
		return st.Start, err
	})
	for pid, st := range inside {
		if st.State == 'Z' || st.State == 'X' || pid == os.Getpid() {
			delete(inside, pid)
		}
	}
	return inside, nil
}

// addDescendants adds to inside those of all whose parents are in it. What was
// read of a parent and of a child is of different moments, and the pid of the
// parent may have changed hands between them: it is the parent only if it was
// there before the child and still is, as start says. That is asked once of each:
// all was read before.
func addDescendants(inside, all map[int]reap.Stat, start func(pid int) (uint64, error)) {
	still := make(map[int]bool)
	for more := true; more; {
		more = false
		for pid, st := range all {
			if _, known := inside[pid]; known {
				continue
			}
			parent, ok := inside[st.Parent]
			if !ok || parent.Start > st.Start {
				continue
			}
			is, asked := still[st.Parent]
			if !asked {
				now, err := start(st.Parent)
				is = err == nil && now == parent.Start
				still[st.Parent] = is
			}
			if is {
				inside[pid], more = st, true
			}
		}
	}
}

// Kill ends every process of the container and returns when none is left. main
// is its main process, nil if it is not watched.
func (c *container) Kill(ctx context.Context, main *reap.Process) error {
	base := c.runtime.base
	done := base.KillMain(&c.note.Note, main) // nil once the main process has ended
	var held reap.Members
	defer held.Release(base.Reaper)
	var pause contained.Pause
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
		signalAll := func(sig unix.Signal) {
			for pid, st := range members {
				if err := held.Signal(pid, st.Start, sig); err != nil {
					base.Log.Debug("end a process of a container", "id", c.id, "error", err) // it is found again
				}
			}
		}
		if try > 2 {
			// They fork faster than they are killed: stop them first.
			signalAll(unix.SIGSTOP)
			if again, err := c.members(); err == nil {
				maps.Copy(members, again)
			}
		}
		signalAll(unix.SIGKILL)
		if err := pause.Wait(ctx, done); err != nil {
			return fmt.Errorf("kill %s: %w", c.id, err)
		}
	}
}

// Remove puts the directories back and forgets the container.
func (c *container) Remove(context.Context) error {
	for _, l := range c.note.Links {
		if err := l.undo(); err != nil {
			return err
		}
	}
	return c.runtime.base.Notes.Forget(c.id)
}

// Stats adds up what /proc shows of the container's processes.
func (c *container) Stats() (runtime.Stats, error) {
	members, err := c.members()
	if err != nil {
		return runtime.Stats{}, err
	}
	s := runtime.Stats{PIDs: int64(len(members))}
	for _, st := range members {
		s.CPU += st.CPU
		s.MemoryBytes += st.Memory
	}
	return s, nil
}
