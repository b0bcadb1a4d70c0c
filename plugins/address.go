package plugins

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
)

// localHost is the Host header of requests that travel over a socket or a pipe.
const localHost = "plugin.moby.localhost"

// maxSocketPath is the longest path of a Unix socket that every supported
// platform can bind and dial: Linux has 108 bytes for it, one of which is the
// terminating NUL; the BSDs have 104.
var maxSocketPath = map[string]int{
	"linux": 107, "android": 107, "windows": 107,
	"darwin": 103, "ios": 103, "freebsd": 103, "netbsd": 103, "openbsd": 103, "dragonfly": 103,
}

// Address is where a plugin is reached: the parsed form of what a spec file or
// the Addr of a definition holds (docs/spec/v1-plugins.md §2.6). The zero value
// is no address.
type Address struct {
	// Scheme is unix, npipe, tcp, http or https.
	Scheme string
	// Path is the socket or the pipe of a local address, and is empty for the
	// others.
	Path string
	// Host is host:port of a TCP address, and is empty for local ones.
	Host string
	// Base is what a TCP address has behind the host: requests go below it. It
	// starts with a slash and does not end with one, or is empty.
	Base string
}

// ParseAddress reads an address in one of the forms unix:///path,
// npipe:////./pipe/name, tcp://host:port, http://host:port[/base] and
// https://host:port[/base]. It touches nothing: whether something listens
// there shows when it is dialled. An error says what is wrong with the form.
func ParseAddress(addr string) (Address, error) {
	if strings.ContainsFunc(addr, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return Address{}, fmt.Errorf("plugin address %q has control characters", addr)
	}
	u, err := url.Parse(addr)
	if err != nil {
		return Address{}, err
	}
	switch u.Scheme {
	case "":
		// The text is what Moby's packages say, literally.
		return Address{}, errors.New("Unknown protocol") //nolint:staticcheck // spec gives the text
	case "unix", "npipe":
		return localAddress(addr, u)
	case "tcp", "http", "https":
		return tcpAddress(addr, u)
	}
	return Address{}, fmt.Errorf("plugin address %q: protocol %q is none of unix, npipe, tcp, http and https", addr, u.Scheme)
}

// localAddress reads the unix and npipe forms.
func localAddress(addr string, u *url.URL) (Address, error) {
	// url.Parse would take "?" and "#" out of a file name, and decode "%".
	path := strings.TrimPrefix(addr[len(u.Scheme)+1:], "//")
	switch {
	case u.Opaque != "" || !strings.HasPrefix(addr[len(u.Scheme)+1:], "//"):
		return Address{}, fmt.Errorf("plugin address %q: write %s:// and an absolute path", addr, u.Scheme)
	case path == "" || path == "/":
		return Address{}, fmt.Errorf("plugin address %q has no path", addr)
	case u.Scheme == "npipe":
		return Address{Scheme: u.Scheme, Path: path}, nil
	case !strings.HasPrefix(path, "/") && !isDriveLetter(path):
		return Address{}, fmt.Errorf("plugin address %q: the path of a socket starts with a slash: use unix:///%s, with three slashes", addr, path)
	}
	if err := checkSocketPath(path); err != nil {
		return Address{}, err
	}
	return Address{Scheme: u.Scheme, Path: path}, nil
}

// isDriveLetter says whether a path is absolute in the way of Windows.
func isDriveLetter(path string) bool {
	return runtime.GOOS == "windows" && filepath.IsAbs(path)
}

// tcpAddress reads the forms that have a host.
func tcpAddress(addr string, u *url.URL) (Address, error) {
	if u.Hostname() == "" {
		return Address{}, fmt.Errorf("plugin address %q has no host", addr)
	}
	if u.User != nil {
		return Address{}, fmt.Errorf("plugin address %q: credentials have no place there", u.Redacted())
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return Address{}, fmt.Errorf("plugin address %q: only a path can follow the host", addr)
	}
	return Address{Scheme: u.Scheme, Host: u.Host, Base: strings.TrimRight(u.EscapedPath(), "/")}, nil
}

// checkSocketPath refuses what the kernel would cut off or refuse with a less
// helpful message.
func checkSocketPath(path string) error {
	limit, ok := maxSocketPath[runtime.GOOS]
	if ok && len(path) > limit {
		return fmt.Errorf("unix socket path %q is too long: %d bytes, at most %d are possible", path, len(path), limit)
	}
	return nil
}

// String is the address in the form that ParseAddress reads.
func (a Address) String() string {
	if a.Scheme == "" {
		return ""
	}
	if a.IsLocal() {
		return a.Scheme + "://" + a.Path
	}
	return a.Scheme + "://" + a.Host + a.Base
}

// IsLocal says whether the address is a socket or a pipe of this machine.
func (a Address) IsLocal() bool {
	return a.Scheme == "unix" || a.Scheme == "npipe"
}

// hostHeader is what the Host header of requests says.
func (a Address) hostHeader() string {
	if a.IsLocal() {
		return localHost
	}
	return a.Host
}

// dialTarget is network and address in the words of package net.
func (a Address) dialTarget() (network, addr string) {
	if a.IsLocal() {
		return a.Scheme, a.Path
	}
	host, port, err := net.SplitHostPort(a.Host)
	if err == nil && port != "" {
		return "tcp", net.JoinHostPort(host, port)
	}
	port = "80"
	if a.Scheme == "https" {
		port = "443"
	}
	return "tcp", net.JoinHostPort(strings.Trim(strings.TrimSuffix(a.Host, ":"), "[]"), port)
}
