package reap

import (
	"errors"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// openPidfd opens a pidfd that Go's netpoller takes. PIDFD_NONBLOCK came with
// Linux 5.10; before, the flag is set afterwards.
func openPidfd(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if errors.Is(err, unix.EINVAL) {
		if fd, err = unix.PidfdOpen(pid, 0); err == nil {
			if err = unix.SetNonblock(fd, true); err != nil {
				err = errors.Join(err, unix.Close(fd))
			}
		}
	}
	if err != nil {
		return nil, os.NewSyscallError("pidfd_open", err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// siginfo is the part of siginfo_t that waitid(2) fills in; on all 64-bit
// architectures the union starts at the fifth int.
type siginfo struct {
	signo, errno, code, _ int32
	pid                   int32
	uid                   uint32
	status                int32
	_                     [100]byte
}

const (
	cldExited = 1
	cldKilled = 2
	cldDumped = 3
)

// waitPidfd takes the exit status of a child. unix.EAGAIN: it has not ended;
// unix.ECHILD: it is not our child.
func waitPidfd(fd int) (unix.WaitStatus, error) {
	var info siginfo
	for {
		err := unix.Waitid(unix.P_PIDFD, fd, (*unix.Siginfo)(unsafe.Pointer(&info)), unix.WEXITED|unix.WNOHANG, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, err
		}
		break
	}
	if info.pid == 0 {
		return 0, unix.EAGAIN
	}
	switch info.code {
	case cldExited:
		return unix.WaitStatus(info.status << 8), nil
	case cldDumped:
		return unix.WaitStatus(info.status | 0x80), nil
	default: // cldKilled
		return unix.WaitStatus(info.status), nil
	}
}

// ended reports whether the process of a pidfd has ended.
func ended(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return err == nil && n == 1
	}
}

// keptStatus asks the kernel for the exit status of a process that somebody
// reaped (Linux 6.15 and later).
func keptStatus(fd int) (unix.WaitStatus, bool) {
	info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
	if err := unix.IoctlPidfdInfo(fd, &info); err != nil || info.Mask&unix.PIDFD_INFO_EXIT == 0 {
		return 0, false
	}
	return unix.WaitStatus(info.Exit_code), true
}

func prctlGetSubreaper(v *int32) error {
	return unix.Prctl(unix.PR_GET_CHILD_SUBREAPER, uintptr(unsafe.Pointer(v)), 0, 0, 0)
}
