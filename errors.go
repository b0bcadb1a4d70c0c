package outlet

import "fmt"

// Errorf returns an error of a class of github.com/containerd/errdefs: its text
// is exactly what format and args make, without that of the class, and
// errors.Is(err, class) holds. %w wraps as in [fmt.Errorf].
func Errorf(class error, format string, args ...any) error {
	return &classError{error: fmt.Errorf(format, args...), class: class}
}

// classError is an error with a class that its text does not show.
type classError struct {
	error
	class error
}

// Unwrap returns the error itself and its class.
func (e *classError) Unwrap() []error { return []error{e.error, e.class} }
