package rootfs

import (
	"errors"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
)

// invalidf is an error about what is wrong with an archive.
func invalidf(format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, format, args...)
}

// hostError is a failure of where the archive goes to, readError one of where
// it comes from. Both are not the fault of the entry that was being written.
type (
	hostError struct{ error }
	readError struct{ error }
)

func (e *hostError) Unwrap() error { return e.error }
func (e *readError) Unwrap() error { return e.error }

// isHostError says whether err would have happened with any archive.
func isHostError(err error) bool {
	var host *hostError
	var read *readError
	if errors.As(err, &host) || errors.As(err, &read) {
		return true
	}
	for _, e := range []error{
		unix.ENOSPC, unix.EDQUOT, unix.EIO, unix.EROFS, unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOSYS, unix.ESTALE,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
