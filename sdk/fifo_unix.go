//go:build unix

package sdk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pipeFIFO reads a FIFO through the runtime's poller.
type pipeFIFO struct {
	f        *os.File
	raw      syscall.RawConn
	draining atomic.Bool
	once     sync.Once
}

// openFIFO opens the reading end. It does not wait: the host has opened its end
// before it says so.
func openFIFO(path string) (fifo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode()&fs.ModeNamedPipe == 0 {
		err = fmt.Errorf("%s is no FIFO", path)
	}
	var raw syscall.RawConn
	if err == nil {
		raw, err = f.SyscallConn()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &pipeFIFO{f: f, raw: raw}, nil
}

// drain ends the waiting of Read.
func (p *pipeFIFO) drain() {
	p.once.Do(func() {
		p.draining.Store(true)
		_ = p.f.SetReadDeadline(time.Unix(1, 0)) // a FIFO has deadlines
	})
}

func (p *pipeFIFO) Read(b []byte) (int, error) {
	if !p.draining.Load() {
		n, err := p.f.Read(b)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
	// There is no end of file as long as the host has the FIFO open, so the end
	// is where nothing is left.
	if err := p.f.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	var n int
	var rerr error
	err := p.raw.Read(func(fd uintptr) bool {
		for {
			n, rerr = syscall.Read(int(fd), b)
			if rerr != syscall.EINTR {
				return true
			}
		}
	})
	switch {
	case err != nil:
		return 0, err
	case errors.Is(rerr, syscall.EAGAIN), rerr == nil && n == 0:
		return 0, io.EOF
	case rerr != nil:
		return 0, rerr
	}
	return n, nil
}

func (p *pipeFIFO) Close() error { return p.f.Close() }
