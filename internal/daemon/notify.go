package daemon

import (
	"net"

	"golang.org/x/sys/unix"
)

// notify tells systemd how the daemon is doing (sd_notify(3)), if it asked to
// be told.
func (d *daemon) notify(state string) {
	path := d.opts.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err == nil {
		_, err = c.Write([]byte(state))
		_ = c.Close() // nothing is buffered
	}
	if err != nil {
		d.log.Warn("notify the service manager", "err", err)
	}
}

func monotonicMicroseconds() int64 {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) != nil {
		return 0
	}
	return ts.Nano() / 1000
}
