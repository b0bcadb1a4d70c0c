package scopedpath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// resolveIn opens rest in the directory (or file) base without leaving it, and
// returns the path from base to what was opened. isRoot says that base is a
// root filesystem, in which a link to /x means base/x.
func resolveIn(base, rest string, isRoot bool) (string, error) {
	dir, err := openPath(unix.AT_FDCWD, base, 0)
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: base, Err: err}
	}
	defer dir.Close()
	if rest == "" {
		return "", nil
	}
	// Absolute links in a directory that is somewhere else in the plugin mean
	// nothing there; in its root filesystem they do.
	how := uint64(unix.RESOLVE_BENEATH)
	if isRoot {
		how = unix.RESOLVE_IN_ROOT
	}
	f, err := openPath(int(dir.Fd()), rest, how|unix.RESOLVE_NO_MAGICLINKS)
	switch {
	case errors.Is(err, unix.EXDEV):
		return "", fmt.Errorf("a symbolic link in it leads out of %s", base)
	case errors.Is(err, unix.ENOSYS):
		return "", errors.New("translating paths needs Linux 5.6 or later (openat2)")
	case err != nil:
		return "", &fs.PathError{Op: "open", Path: path.Join(base, rest), Err: err}
	}
	defer f.Close()
	top, err := name(dir)
	if err != nil {
		return "", err
	}
	found, err := name(f)
	if err != nil {
		return "", err
	}
	rel, ok := below(top, found)
	if !ok {
		// It was moved away while it was open, or removed.
		return "", fmt.Errorf("it is not in %s any more: %w", base, fs.ErrNotExist)
	}
	return strings.TrimPrefix(rel, "/"), nil
}

// resolveHost checks that a path of the host is one, and exists.
func resolveHost(p string) error {
	if !path.IsAbs(p) {
		return fmt.Errorf("path %q is not absolute", p)
	}
	_, err := os.Stat(p)
	return err
}

// openPath opens a file without being able to read it, so that opening has no
// effect on devices, FIFOs and the like.
func openPath(dir int, p string, resolve uint64) (*os.File, error) {
	how := unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve}
	// EAGAIN: something was renamed meanwhile, the kernel cannot tell whether
	// the path stayed inside.
	for range 32 {
		fd, err := unix.Openat2(dir, p, &how)
		switch {
		case err == nil:
			return os.NewFile(uintptr(fd), p), nil
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return nil, err
		}
	}
	return nil, unix.EAGAIN
}

// name is where an open file is.
func name(f *os.File) (string, error) {
	return os.Readlink("/proc/self/fd/" + strconv.Itoa(int(f.Fd())))
}
