// Package stream connects a process in a container with the readers and writers
// of an [outlet.Process]: through pipes, or through a terminal. Both runtimes use
// it for Exec. It neither starts processes nor waits for them.
package stream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
)

// linger is how long output is still read after the process ended: what it
// wrote is in the pipe then, but a child of it may hold the pipe open for ever.
const linger = 500 * time.Millisecond

// Pipes are the pipes of one process. Its side are the exported fields, with
// /dev/null where there is no stream.
type Pipes struct {
	Stdin, Stdout, Stderr *os.File

	ours    []*os.File
	outputs sync.WaitGroup
	start   []func()
}

// NewPipes makes a pipe for each of p's streams that is not nil.
func NewPipes(p outlet.Process) (*Pipes, error) {
	s := new(Pipes)
	if err := s.open(p); err != nil {
		s.start = nil // nobody will read or write
		s.Started()
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Pipes) open(p outlet.Process) (err error) {
	if p.Stdin == nil {
		if s.Stdin, err = os.Open(os.DevNull); err != nil {
			return err
		}
	} else {
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		s.Stdin, s.ours = r, append(s.ours, w)
		s.start = append(s.start, func() {
			// Not waited for: nothing ends a Read of a stranger's reader. It
			// holds nothing but the pipe.
			go func() {
				_, _ = io.Copy(w, p.Stdin) // an error is the process' end
				_ = w.Close()
			}()
		})
	}
	for _, o := range []struct {
		to   io.Writer
		side **os.File
	}{{p.Stdout, &s.Stdout}, {p.Stderr, &s.Stderr}} {
		if o.to == nil {
			if *o.side, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
				return err
			}
			continue
		}
		r, w, err := os.Pipe()
		if err != nil {
			return fmt.Errorf("pipe: %w", err)
		}
		*o.side, s.ours = w, append(s.ours, r)
		s.start = append(s.start, func() { s.outputs.Go(func() { drain(o.to, r) }) })
	}
	return nil
}

// Started closes the process' side of the pipes and begins to copy: the process
// has its own copies now, or will never run.
func (s *Pipes) Started() {
	for _, f := range []*os.File{s.Stdin, s.Stdout, s.Stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
	for _, f := range s.start {
		f()
	}
	s.start = nil
}

// Drain waits for the rest of the output, not for ever, once the process ended.
func (s *Pipes) Drain(ctx context.Context) { waitFor(ctx, &s.outputs, s.Close) }

// Close ends all copying of output and waits for it.
func (s *Pipes) Close() {
	for _, f := range s.ours {
		_ = f.Close() // closing twice only returns an error
	}
	s.outputs.Wait()
}

// Terminal is our side of a process' terminal.
type Terminal struct {
	master  *os.File
	outputs sync.WaitGroup
	resizes sync.WaitGroup
	closed  chan struct{}
	once    sync.Once
}

// NewTerminal begins to copy between master, which Go's poller must watch (see
// [Pollable]), and p's streams, and to follow p.Resize. It takes master over.
func NewTerminal(master *os.File, p outlet.Process) *Terminal {
	t := &Terminal{master: master, closed: make(chan struct{})}
	t.resizes.Go(func() {
		for {
			select {
			case <-t.closed:
				return
			case size, ok := <-p.Resize:
				if !ok {
					return
				}
				t.resize(size)
			}
		}
	})
	out := p.Stdout
	if out == nil {
		out = io.Discard
	}
	t.outputs.Go(func() { drain(out, master) })
	if p.Stdin != nil {
		// Not waited for, like the standard input of Pipes.
		go func() { _, _ = io.Copy(master, p.Stdin) }()
	}
	return t
}

// resize sets the size of the terminal. It fails when the terminal is gone, and
// the process with it.
func (t *Terminal) resize(size outlet.WindowSize) {
	conn, err := t.master.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		_ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
	})
}

// Pollable returns a file for a copy of fd that Go's poller watches, so that
// closing it ends a Read.
func Pollable(fd uintptr, name string) (*os.File, error) {
	dup, err := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(dup, true); err != nil {
		return nil, errors.Join(os.NewSyscallError("fcntl", err), unix.Close(dup))
	}
	return os.NewFile(uintptr(dup), name), nil
}

// OpenTerminal opens a new terminal: our side, and that of the process.
func OpenTerminal() (master, process *os.File, err error) {
	fd, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, &os.PathError{Op: "open", Path: "/dev/ptmx", Err: err}
	}
	master = os.NewFile(uintptr(fd), "ptmx")
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		return nil, nil, errors.Join(os.NewSyscallError("unlock the terminal", err), master.Close())
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		return nil, nil, errors.Join(os.NewSyscallError("number of the terminal", err), master.Close())
	}
	process, err = os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, errors.Join(err, master.Close())
	}
	return master, process, nil
}

// Drain waits for the rest of the output, not for ever, once the process ended.
func (t *Terminal) Drain(ctx context.Context) { waitFor(ctx, &t.outputs, t.Close) }

// Close closes the terminal, which hangs up whoever still uses it, and waits for
// the copying of output to end.
func (t *Terminal) Close() {
	t.once.Do(func() {
		close(t.closed)
		_ = t.master.Close()
	})
	t.outputs.Wait()
	t.resizes.Wait()
}

// drain copies r to w and, if w fails, reads on: a process whose caller went
// away is killed, it must not block before.
func drain(w io.Writer, r io.Reader) {
	if _, err := io.Copy(w, r); err != nil {
		_, _ = io.Copy(io.Discard, r)
	}
}

// waitFor waits for wg; if that takes long or ctx ends, giveUp must make it end.
func waitFor(ctx context.Context, wg *sync.WaitGroup, giveUp func()) {
	finished := make(chan struct{})
	go func() {
		wg.Wait()
		close(finished)
	}()
	t := time.NewTimer(linger)
	defer t.Stop()
	select {
	case <-finished:
		return
	case <-ctx.Done():
	case <-t.C:
	}
	giveUp()
	<-finished
}
