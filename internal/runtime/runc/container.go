package runc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	gorunc "github.com/containerd/go-runc"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/contained"
)

// container is what is known of a container, running or not. It is a
// [contained.Container].
type container struct {
	runtime *Runtime
	id      string
	note    note
	created bool // runc made it and did not start it
	// killed says that we sent SIGKILL; never nil.
	killed *atomic.Bool
	// mountNS is held while the container may have processes; never nil.
	mountNS *heldMountNS
	// unfinished says that nobody noted the end of runc's work, which may go on.
	unfinished bool
}

// Common is the part of the note that all runtimes have.
func (c *container) Common() *contained.Note { return &c.note.Note }

// Settle ends a runc that still works at starting the container, and looks again
// at what there is then.
func (c *container) Settle(ctx context.Context) (started bool, err error) {
	if c.unfinished {
		if err := c.endRunc(ctx); err != nil {
			return false, err
		}
		// It may have got further since it was looked at.
		again, err := c.runtime.load(c.id)
		if err == nil {
			again.unfinished, again.killed = false, c.killed
			c.mountNS.release()
			*c = *again
		} else if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return c.note.Init != nil && !c.created, nil
}

// endRunc ends a runc that still works at starting the container: it gets
// SIGKILL when the one who called it dies, but it need not have ended yet, and
// must not go on making things that are being removed.
func (c *container) endRunc(ctx context.Context) error {
	var held reap.Members
	defer held.Release(c.runtime.cfg.Reaper)
	var pause contained.Pause
	for {
		all, err := reap.Processes()
		if err != nil {
			return err
		}
		found := false
		for pid := range all {
			if c.isRunc(pid) {
				found = true
				held.Add([]int{pid})
				_ = unix.Kill(pid, unix.SIGKILL) // if it is still there, it is found again
			}
		}
		if !found {
			return nil
		}
		if err := pause.Wait(ctx, nil); err != nil {
			return fmt.Errorf("end the runc of %s: %w", c.id, err)
		}
	}
}

// isRunc reports whether pid is a runc that was called for this container. A
// zombie has no arguments.
func (c *container) isRunc(pid int) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	args := strings.Split(strings.TrimSuffix(string(raw), "\x00"), "\x00")
	i := slices.Index(args, "--root")
	return i > 0 && i+1 < len(args) && args[i+1] == c.runtime.cfg.Root && args[len(args)-1] == c.id
}

// Kill ends every process of the container and returns when none is left. main
// is its main process, nil if it is not watched.
func (c *container) Kill(ctx context.Context, main *reap.Process) error {
	if _, err := c.Settle(ctx); err != nil {
		return err
	}
	c.killed.Store(true)
	done := c.runtime.base.KillMain(&c.note.Note, main) // nil once the main process has ended
	var members reap.Members
	defer members.Release(c.runtime.cfg.Reaper)
	var pause contained.Pause
	for try := 0; ; try++ {
		select {
		case <-done:
			done = nil
		default:
		}
		// With pids of its own the kernel ends all when the first one ends:
		// nobody else needs to be looked for before.
		if done == nil || !c.note.OwnPIDs {
			pids, err := c.members()
			if err != nil {
				return err
			}
			if len(pids) == 0 && done == nil {
				c.mountNS.release()
				return nil
			}
			if !c.note.OwnPIDs {
				members.Add(pids)
			}
			if err := c.kill(pids, try); err != nil {
				return err
			}
		}
		if err := pause.Wait(ctx, done); err != nil {
			return fmt.Errorf("kill %s: %w", c.id, err)
		}
	}
}

// Remove removes what is kept of a container without processes.
func (c *container) Remove(ctx context.Context) error {
	r := c.runtime
	if r.cfg.SystemdCgroup || c.note.Hooks {
		if err := c.runcDelete(ctx); err != nil {
			return err
		}
	}
	// The kernel may count a process a moment longer than it shows it.
	var pause contained.Pause
	for {
		err := cgroups(c.note.Cgroups).remove()
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EBUSY) {
			return err
		}
		if werr := pause.Wait(ctx, nil); werr != nil {
			return errors.Join(err, werr)
		}
	}
	r.mu.Lock()
	if filepath.IsAbs(c.note.CgroupsPath) && filepath.Dir(c.note.CgroupsPath) != "/" {
		for _, dir := range c.note.Cgroups {
			r.parents[filepath.Dir(dir)] = struct{}{}
		}
	}
	r.mu.Unlock()
	if err := durable.RemoveAll(r.stateDir(c.id)); err != nil {
		return err
	}
	if c.note.Bundle != "" {
		for _, name := range []string{pidFile, logFile} {
			if err := durable.Remove(filepath.Join(c.note.Bundle, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
	}
	return r.base.Notes.Forget(c.id)
}

// Explain says whether the kernel killed the main process for want of memory.
func (c *container) Explain(exit *outlet.Exit) {
	if exit.Signal == int(unix.SIGKILL) && !c.killed.Load() {
		exit.OOMKilled = cgroups(c.note.Cgroups).oomKilled()
	}
}

// Stats returns what the container's cgroups count.
func (c *container) Stats() (runtime.Stats, error) { return cgroups(c.note.Cgroups).stats(), nil }

// runcDelete lets runc delete the container, for what only runc can do.
func (c *container) runcDelete(ctx context.Context) error {
	r := c.runtime
	if _, err := os.Stat(filepath.Join(r.stateDir(c.id), "state.json")); err != nil {
		return nil // runc knows nothing of it
	}
	release := r.cfg.Reaper.Hold()
	defer release()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.StartTimeout)
	defer cancel()
	if err := durable.Do(durable.Runtime, "runc delete", func() error {
		return r.command("").Delete(ctx, c.id, &gorunc.DeleteOpts{Force: true})
	}); err != nil {
		return fmt.Errorf("runc delete %s: %w", c.id, err)
	}
	return nil
}
