package manager

import (
	"context"
	"errors"
	"slices"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/probe"
)

// A blame says whose fault it is that a plugin did not start. It decides whether
// an upgrade is undone that no manager has seen become ready (docs/format.md).
type blame int

const (
	// blameHost is the host's, or the manager's: the version may be fine, and the
	// one before it would not start either.
	blameHost blame = iota
	// blameVersion is the version's: it will not start the next time either.
	blameVersion
	// blameNobody cannot be told: it is taken for the version's if it happens
	// [Manager.maxDoubts] times in a row.
	blameNobody
)

// maxDoubts is how many starts may fail one after the other for reasons nobody
// can be blamed for. With the delays of [backoff] these are at least 15 seconds
// from the first to the last.
const maxDoubts = 8

// startError is why a start failed and who is to blame.
type startError struct {
	error
	blame blame
	exit  *outlet.Exit // of a process that should have become ready
}

func (e *startError) Unwrap() error { return e.error }

// blamed returns err with who is to blame for it; nil if err is.
func blamed(b blame, err error) error {
	if err == nil {
		return nil
	}
	return &startError{error: err, blame: b}
}

// doubtful returns err as one for which nobody can be blamed, unless it says
// that it is the host.
func doubtful(err error) error {
	if ofHost(err) {
		return blamed(blameHost, err)
	}
	return blamed(blameNobody, err)
}

// blameOf says who is to blame for a failed start. Most of what is done before a
// process runs depends on the host alone, so what nobody has looked at is its.
func blameOf(err error) blame {
	var e *startError
	if errors.As(err, &e) {
		return e.blame
	}
	return blameHost
}

// ofHost says whether an error is the want of something the host should have, or
// the end of the manager's patience.
func ofHost(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errdefs.IsUnavailable(err) {
		return true
	}
	return isAny(err, unix.ENOSPC, unix.EDQUOT, unix.EROFS, unix.EIO, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EAGAIN)
}

func isAny(err error, errnos ...syscall.Errno) bool {
	return slices.ContainsFunc(errnos, func(errno syscall.Errno) bool { return errors.Is(err, errno) })
}

// blameExit says who is to blame for the end of a process that should have become
// ready: mostly itself. A signal that others send, the kernel for want of memory
// among them, may have nothing to do with it, and an end that nobody watched may
// have been one.
func blameExit(e outlet.Exit) blame {
	fromOutside := slices.Contains([]syscall.Signal{
		unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT,
	}, syscall.Signal(e.Signal))
	if e.OOMKilled || fromOutside || e.Signal == 0 && e.Code < 0 {
		return blameNobody
	}
	return blameVersion
}

// blameSocket says who is to blame for a socket that did not accept in time.
// Whoever cannot open another file cannot see that it does.
func blameSocket(late *probe.NotReadyError) blame {
	switch {
	case errors.Is(late.Cause, context.Canceled), late.Seen == probe.SeenNoDir, late.Seen == probe.SeenUnknown,
		isAny(late.Dial, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS): // others are how a socket refuses
		return blameHost
	}
	return blameVersion
}

// undoes says whether a failed start shows that the version of a pending upgrade
// does not work, so that the one before it is brought back.
func (u *unit) undoes(kind launchKind, err error) bool {
	l := &u.life
	if l.rec.Previous == nil || u.proven(&l.rec) {
		return false
	}
	if kind == launchUpgraded { // who upgraded it waits, and is told
		return true
	}
	switch blameOf(err) {
	case blameVersion:
		return true
	case blameNobody:
		l.doubts++
		return l.doubts >= u.m.maxDoubts
	case blameHost:
	}
	return false
}
