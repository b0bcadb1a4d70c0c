//go:build !unix

package sdk

import (
	"errors"
	"fmt"
)

// openFIFO fails: hosts have log plugins only where there are FIFOs.
func openFIFO(path string) (fifo, error) {
	return nil, fmt.Errorf("read %s: log plugins: %w", path, errors.ErrUnsupported)
}
