package rootfs

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// invalid is an error with a text of its own that is of the class
// errdefs.ErrInvalidArgument: everything that is wrong with an archive.
type invalid struct {
	text  string
	cause error
}

func (e *invalid) Error() string   { return e.text }
func (e *invalid) Unwrap() []error { return []error{errdefs.ErrInvalidArgument, e.cause} }

// invalidf formats like fmt.Errorf; a cause given with %w stays in the chain.
func invalidf(format string, args ...any) error {
	err := fmt.Errorf(format, args...)
	return &invalid{text: err.Error(), cause: err}
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
