package reap

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
)

// Process is a process that is watched.
type Process struct {
	id    Identity
	pidfd *os.File
	done  chan struct{}
	exit  outlet.Exit // written before done is closed

	onExit  []func(*outlet.Exit) // guarded by the Reaper's mu
	release func()               // ends the watching
}

// Watch watches the process id until it ends, or the Reaper is closed. It need
// not be a child. Whoever watches the same process again gets the same Process:
// its exit status can be had only once. onExit, if not nil, is called when it
// has ended, before Done is closed, and may add to what is known of the exit; it
// must not block for long. errdefs.ErrNotFound: there is no such process (any
// more).
func (r *Reaper) Watch(id Identity, onExit func(*outlet.Exit)) (*Process, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, outlet.Errorf(errdefs.ErrUnavailable, "the reaper is closed")
	}
	p := r.watched[id]
	if p == nil {
		var err error
		if p, err = open(id); err != nil {
			return nil, err
		}
		r.claimed[id.PID]++
		r.watched[id] = p
		r.watchers.Go(func() { r.watch(p) })
	}
	if onExit != nil {
		p.onExit = append(p.onExit, onExit)
	}
	return p, nil
}

// open opens the process id.
func open(id Identity) (*Process, error) {
	pidfd, err := openPidfd(id.PID)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) {
		return nil, outlet.Errorf(errdefs.ErrNotFound, "no process %d", id.PID)
	}
	if err != nil {
		return nil, fmt.Errorf("watch process %d: %w", id.PID, err)
	}
	// Only now: from here on the pid cannot go to another process unnoticed.
	if err := id.Check(); err != nil {
		return nil, errors.Join(err, pidfd.Close())
	}
	p := &Process{id: id, pidfd: pidfd, done: make(chan struct{})}
	p.release = sync.OnceFunc(func() { _ = pidfd.Close() })
	return p, nil
}

// watch is the goroutine of one Process.
func (r *Reaper) watch(p *Process) {
	exit, err := p.await()
	if err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if !r.closed { // else the process lives, and nobody learns of its end here
			r.log.Error("wait for a process", "pid", p.id.PID, "error", err)
		}
		r.forgetLocked(p)
		return
	}
	p.release()
	for !r.finish(p, &exit) {
	}
	r.wake()
}

// finish calls what is to be called at the end of p, or, if nothing is left to
// be called, makes the end known.
func (r *Reaper) finish(p *Process, exit *outlet.Exit) (finished bool) {
	r.mu.Lock()
	calls := p.onExit
	p.onExit = nil
	if len(calls) == 0 {
		r.forgetLocked(p)
		p.exit = *exit
		close(p.done)
	}
	r.mu.Unlock()
	for _, call := range calls {
		call(exit)
	}
	return len(calls) == 0
}

func (r *Reaper) forgetLocked(p *Process) {
	r.unclaimLocked(p.id.PID)
	delete(r.watched, p.id)
}

// await parks until the process has ended and returns how.
func (p *Process) await() (outlet.Exit, error) {
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return outlet.Exit{}, err
	}
	var (
		status  unix.WaitStatus
		known   bool
		waitErr error
	)
	err = conn.Read(func(fd uintptr) (done bool) {
		status, waitErr = waitPidfd(int(fd))
		switch {
		case waitErr == nil:
			known = true
			return true
		case errors.Is(waitErr, unix.EAGAIN):
			return false
		case !errors.Is(waitErr, unix.ECHILD):
			return true
		}
		waitErr = nil // somebody else's child
		if !ended(int(fd)) {
			return false
		}
		status, known = p.strangerStatus(int(fd))
		return true
	})
	if err == nil {
		err = waitErr
	}
	if err != nil {
		return outlet.Exit{}, err
	}
	return exitOf(status, known), nil
}

// strangerStatus finds the exit status of a process that ended and is not our
// child: while it is a zombie /proc has it, afterwards the kernel may have kept
// it. It can be reaped between the two, so the second comes last.
func (p *Process) strangerStatus(fd int) (unix.WaitStatus, bool) {
	if status, ok := keptStatus(fd); ok {
		return status, true
	}
	st, err := ReadStat(p.id.PID)
	// /proc shows 0 to those who may not see it; who may not trace the process
	// can send it no signal either, and has no business with it.
	if err == nil && st.Start == p.id.Start && st.State == 'Z' && mayInspect(p.id.PID) {
		return st.Status, true
	}
	return keptStatus(fd)
}

// mayInspect reports whether /proc hides nothing of pid from us.
func mayInspect(pid int) bool {
	if os.Geteuid() == 0 {
		return true
	}
	fi, err := os.Stat(fmt.Sprintf("/proc/%d", pid))
	if err != nil {
		return false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Geteuid()
}

func exitOf(status unix.WaitStatus, known bool) outlet.Exit {
	exit := outlet.Exit{Code: -1, At: time.Now()}
	switch {
	case !known:
	case status.Signaled():
		exit.Signal = int(status.Signal())
		exit.Code = 128 + exit.Signal
	default:
		exit.Code = status.ExitStatus()
	}
	return exit
}

// Identity names the process.
func (p *Process) Identity() Identity { return p.id }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how the process ended; it is only meaningful after Done. Code is -1
// where nobody knows.
func (p *Process) Exit() outlet.Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return outlet.Exit{Code: -1}
	}
}

// Signal sends sig to the process. errdefs.ErrNotFound: it has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	gone := outlet.Errorf(errdefs.ErrNotFound, "process %d has ended", p.id.PID)
	conn, err := p.pidfd.SyscallConn()
	if err != nil {
		return gone
	}
	var sendErr error
	err = conn.Control(func(fd uintptr) {
		sendErr = unix.PidfdSendSignal(int(fd), sig, nil, 0)
	})
	switch {
	case err != nil, errors.Is(sendErr, unix.ESRCH):
		return gone
	case sendErr != nil:
		return fmt.Errorf("signal %d to process %d: %w", int(sig), p.id.PID, sendErr)
	}
	return nil
}

// Finish waits for the process, and ends it if ctx ends before. It returns the
// exit code, -1 if nobody knows it, or the error of ctx.
func (p *Process) Finish(ctx context.Context) (int, error) {
	select {
	case <-p.done:
		return p.exit.Code, nil
	case <-ctx.Done():
	}
	if err := p.Signal(unix.SIGKILL); err != nil && !errdefs.IsNotFound(err) {
		return -1, errors.Join(ctx.Err(), err)
	}
	// SIGKILL leaves little to wait for, but a process that hangs in the kernel
	// must not hold the caller for ever.
	t := time.NewTimer(5 * time.Second)
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
	}
	return -1, ctx.Err()
}
