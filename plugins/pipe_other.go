//go:build !windows

package plugins

import (
	"fmt"
	"net"
)

// systemPipes are the named pipes of this system: none.
type systemPipes struct{}

func (systemPipes) open(path string) (net.Conn, error) {
	return nil, fmt.Errorf("protocol not available: named pipe %s: %w", path, ErrUnsupportedPlatform)
}
