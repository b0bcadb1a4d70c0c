package probe

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// dial connects through the socket's descriptor: that is the same socket that
// was found to be one, and its path always fits into an address.
func dial(ctx context.Context, path string) (net.Conn, error) {
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "unix", Addr: &net.UnixAddr{Name: path, Net: "unix"}, Err: err}
	}
	fd, err := unix.Open(path, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fail(os.NewSyscallError("open", err))
	}
	defer func() { _ = unix.Close(fd) }() // the connection does not need it
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fail(os.NewSyscallError("fstat", err))
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return fail(fmt.Errorf("%s is not a socket: %w", filepath.Base(path), unix.ENOTSOCK))
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", "/proc/self/fd/"+strconv.Itoa(fd))
	if err != nil {
		if op, ok := err.(*net.OpError); ok { //nolint:errorlint // what the dialer returns itself
			err = op.Err
		}
		return fail(err)
	}
	return conn, nil
}
