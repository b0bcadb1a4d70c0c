package client

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// systemSocket is where the daemon of a machine listens.
const systemSocket = "/run/outlet/outlet.sock"

// Host is the address of a daemon, taken apart.
type Host struct {
	Network string // "unix" or "tcp"
	Address string // a socket's path, or host:port
}

// String is the form [ParseHost] reads.
func (h Host) String() string { return h.Network + "://" + h.Address }

// where names the host in messages: the bare path of a socket, so that it can
// be pasted into ls.
func (h Host) where() string {
	if h.Network == "unix" {
		return h.Address
	}
	return h.String()
}

// ParseHost reads unix:///path, a plain absolute path, tcp://host:port, or, for
// those used to web addresses, http:// and https://host:port. Anything else is
// an errdefs.ErrInvalidArgument.
func ParseHost(s string) (Host, error) {
	if filepath.IsAbs(s) || strings.HasPrefix(s, "/") {
		return Host{"unix", s}, nil
	}
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok {
		return Host{}, hostError(s, "write unix:///path/to/socket or tcp://host:port")
	}
	switch scheme {
	case "unix":
		if rest == "" {
			return Host{}, hostError(s, "the path of the socket is missing")
		}
		return Host{"unix", rest}, nil
	case "tcp", "http", "https":
		addr := strings.TrimSuffix(rest, "/")
		if strings.Contains(addr, "/") {
			return Host{}, hostError(s, "a path after the port is not supported")
		}
		host, port, err := net.SplitHostPort(addr)
		if err != nil || port == "" {
			return Host{}, hostError(s, "write tcp://host:port")
		}
		if host == "" {
			host = "127.0.0.1"
		}
		return Host{"tcp", net.JoinHostPort(host, port)}, nil
	default:
		return Host{}, hostError(s, fmt.Sprintf("the scheme %q is not supported, only unix and tcp are", scheme))
	}
}

func hostError(s, why string) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, "invalid host %q: %s", s, why)
}

// DefaultHost is where the daemon of this user listens: the machine's socket
// for root, outlet/outlet.sock below XDG_RUNTIME_DIR for others. A user who has
// no daemon of their own is sent to the machine's if that is there.
func DefaultHost() string {
	dir := os.Getenv("XDG_RUNTIME_DIR")
	if os.Getuid() == 0 || dir == "" {
		return "unix://" + systemSocket
	}
	own := filepath.Join(dir, "outlet", "outlet.sock")
	if !exists(own) && exists(systemSocket) {
		return "unix://" + systemSocket
	}
	return "unix://" + own
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
