package outlet

import "fmt"

// Errorf returns an error of a class of github.com/containerd/errdefs: its text
// is exactly what format and args make, without that of the class, and
// errors.Is(err, class) holds. %w wraps as in [fmt.Errorf]; of two classes in
// one error the outer one is found first.
func Errorf(class error, format string, args ...any) error {
	return &classError{error: fmt.Errorf(format, args...), class: class}
}

// classError is an error with a class that its text does not show.
type classError struct {
	error
	class error
}

// Unwrap returns the class and the error itself, in this order, so that who
// searches in depth finds the class before those of its causes.
func (e *classError) Unwrap() []error { return []error{e.class, e.error} }

// OpError says in which operation on which plugin Err happened. It has the
// class of Err.
type OpError struct {
	Op     string // as its user calls it: "enable", "create"
	Plugin string // the plugin's name; "" if there is none yet
	Err    error
}

// Error returns "enable sample/driver:latest: cause".
func (e *OpError) Error() string {
	if e.Plugin == "" {
		return e.Op + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Plugin + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }
