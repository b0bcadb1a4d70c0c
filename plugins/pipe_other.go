//go:build !windows

package plugins

import (
	"context"
	"fmt"
	"net"
)

// dialPipe says that named pipes are a thing of Windows.
func dialPipe(_ context.Context, address string) (net.Conn, error) {
	return nil, fmt.Errorf("protocol not available: named pipe %s: %w", address, ErrUnsupportedPlatform)
}
