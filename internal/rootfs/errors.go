package rootfs

import (
	"fmt"

	"github.com/containerd/errdefs"
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
