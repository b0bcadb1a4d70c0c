//go:build !unix

package cli

import "github.com/outletd/outlet"

// watchSize gives the size of a terminal now; where nothing says that it
// changed, that is all.
func watchSize(fd int) (sizes <-chan outlet.WindowSize, stop func()) {
	out := make(chan outlet.WindowSize, 1)
	if s, ok := windowSize(fd); ok {
		out <- s
	}
	return out, func() {}
}
