//go:build unix

package sdk

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"syscall"
)

// firstInherited is the descriptor at which inherited sockets begin.
const firstInherited = 3

// inherit returns the socket that this process was started with, or nil.
func inherit(getenv func(string) string) (net.Listener, error) {
	if getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil // it was meant for another process
	}
	text := getenv("LISTEN_FDS")
	if text == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("sdk: LISTEN_FDS is %q, not a number of sockets", text)
	}
	switch n {
	case 0:
		return nil, nil
	case 1:
	default:
		return nil, fmt.Errorf("sdk: the plugin was given %d sockets and serves one", n)
	}
	syscall.CloseOnExec(firstInherited)
	f := os.NewFile(firstInherited, "inherited socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("sdk: the inherited descriptor: %w", err)
	}
	return l, nil
}
