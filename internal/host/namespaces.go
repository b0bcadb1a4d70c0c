package host

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// tryNamespaces finds out by trying whether namespaces can be made and whether
// filesystems can be mounted.
func tryNamespaces() (unshareErr, mountErr error) {
	type result struct{ unshare, mount error }
	done := make(chan result)
	go func() {
		// Not unlocked: the thread ends with the goroutine, and its namespaces
		// with it.
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end, and the process would be seen to be
			// where it is. While it is held here the next one is another.
			defer runtime.UnlockOSThread()
			var r result
			r.unshare, r.mount = tryNamespaces()
			done <- r
			return
		}
		var r result
		r.unshare, r.mount = tryOnThread()
		done <- r
	}()
	r := <-done
	return r.unshare, r.mount
}

// tryOnThread moves the calling thread into namespaces of its own and mounts
// something there. The thread is of no use afterwards.
func tryOnThread() (unshareErr, mountErr error) {
	err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC | unix.CLONE_NEWNET | unix.CLONE_NEWPID)
	if err != nil {
		unshareErr = fmt.Errorf("unshare: %w", err)
		return unshareErr, tryDetachedMount()
	}
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("mount: make / private: %w", err)
	}
	// Over /proc: it is there, it is a directory, and nobody but this thread
	// sees it.
	if err := unix.Mount("tmpfs", "/proc", "tmpfs", 0, "size=4k"); err != nil {
		return nil, fmt.Errorf("mount: %w", err)
	}
	return nil, nil
}

// tryDetachedMount makes a filesystem that is attached nowhere, which takes the
// same privilege as mounting it.
func tryDetachedMount() error {
	fs, err := unix.Fsopen("tmpfs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	defer func() { _ = unix.Close(fs) }() // nothing is kept of it
	if err := unix.FsconfigCreate(fs); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	m, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	return unix.Close(m)
}

// tryUserNS says whether a process can be started in a new user namespace. The
// program is one that cannot be executed: the refusal to execute it shows that
// the namespace was made and its ids were mapped.
func tryUserNS() bool {
	_, err := syscall.ForkExec(os.DevNull, []string{os.DevNull}, &syscall.ProcAttr{
		Sys: &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
			UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
		},
	})
	return errors.Is(err, syscall.EACCES)
}
