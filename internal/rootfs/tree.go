package rootfs

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable"
)

// maxLinks is how many symbolic links one name may lead through, the kernel's
// own number.
const maxLinks = 40

// tree is a directory whose names are resolved as if it were the root of the
// file system: neither ".." nor a link, absolute or not, leads out of it.
type tree struct {
	fd int
	// walk says that this kernel has no openat2, or that it is forbidden: names
	// are then walked element by element.
	walk bool
}

// openTree opens dir, which is trusted itself.
func openTree(dir string) (*tree, error) {
	fd, err := openRetry(unix.AT_FDCWD, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: dir, Err: err}
	}
	return &tree{fd: fd}, nil
}

func (t *tree) close() error { return unix.Close(t.fd) }

// dir opens the directory name, links followed inside the tree. The descriptor
// is the caller's; it is good as the base of other calls only.
func (t *tree) dir(name string) (int, error) { return t.open(name, unix.O_DIRECTORY) }

// open opens whatever name is, with flags of O_PATH, links followed inside the
// tree.
func (t *tree) open(name string, flags int) (int, error) {
	name = strings.TrimPrefix(path.Clean("/"+name), "/")
	if name == "" {
		name = "."
	}
	if !t.walk {
		fd, err := t.openat2(name, flags)
		if !errors.Is(err, unix.ENOSYS) && !errors.Is(err, unix.EPERM) {
			return fd, err
		}
		t.walk = true
	}
	return t.walkTo(name, flags)
}

func (t *tree) openat2(name string, flags int) (int, error) {
	how := &unix.OpenHow{
		Flags:   uint64(flags | unix.O_PATH | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	// EAGAIN says that something was renamed while the kernel looked; where
	// nobody attacks, a few tries are plenty.
	for range 32 {
		fd, err := unix.Openat2(t.fd, name, how)
		if !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.EAGAIN) {
			return fd, err
		}
	}
	return -1, unix.EAGAIN
}

// walkTo does by hand what openat2 with RESOLVE_IN_ROOT does: every element is
// opened without following it, links are read and their elements put in front
// of what is left, and ".." goes back to a descriptor that was passed on the
// way, so that there is no way above t.fd.
func (t *tree) walkTo(name string, flags int) (_ int, err error) {
	root, err := unix.FcntlInt(uintptr(t.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	passed := []int{root}
	defer func() {
		if err == nil {
			passed = passed[:len(passed)-1] // the last is the answer
		}
		for _, fd := range passed {
			closeFD(fd)
		}
	}()
	links := 0
	for rest := strings.Split(name, "/"); len(rest) > 0; {
		element := rest[0]
		rest = rest[1:]
		switch element {
		case "", ".":
			continue
		case "..":
			if n := len(passed); n > 1 {
				closeFD(passed[n-1])
				passed = passed[:n-1]
			}
			continue
		}
		here := passed[len(passed)-1]
		fd, err := openRetry(here, element, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return -1, err
		}
		var st unix.Stat_t
		if err := unix.Fstat(fd, &st); err != nil {
			closeFD(fd)
			return -1, err
		}
		switch st.Mode & unix.S_IFMT {
		case unix.S_IFDIR:
			passed = append(passed, fd)
		case unix.S_IFLNK:
			target, err := readlinkFD(fd)
			closeFD(fd)
			if err != nil {
				return -1, err
			}
			if links++; links > maxLinks {
				return -1, unix.ELOOP
			}
			if strings.HasPrefix(target, "/") {
				for _, fd := range passed[1:] {
					closeFD(fd)
				}
				passed = passed[:1]
			}
			rest = append(strings.Split(target, "/"), rest...)
		default:
			if len(rest) > 0 || flags&unix.O_DIRECTORY != 0 {
				closeFD(fd)
				return -1, unix.ENOTDIR
			}
			passed = append(passed, fd)
		}
	}
	return passed[len(passed)-1], nil
}

// mkdirAll makes name with everything missing on the way, 0755 and owned by the
// caller, and opens it. Links on the way are followed inside the tree; one that
// leads nowhere is an error.
func (t *tree) mkdirAll(name string) (int, error) {
	name = path.Clean("/" + name)
	fd, err := t.dir(name)
	if !errors.Is(err, unix.ENOENT) || name == "/" {
		return fd, err
	}
	parent, err := t.mkdirAll(path.Dir(name))
	if err != nil {
		return -1, err
	}
	defer closeFD(parent)
	base := path.Base(name)
	if err := durable.Mkdirat(parent, base, 0o755); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, err
	} else if err == nil {
		// Not the umask's business.
		if err := unix.Fchmodat(parent, base, 0o755, 0); err != nil {
			return -1, err
		}
	}
	return t.dir(name)
}

// openRetry is openat that goes on after a signal.
func openRetry(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := durable.Openat(dir, name, flags, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// readlinkFD reads the link that fd was opened on with O_PATH and O_NOFOLLOW.
func readlinkFD(fd int) (string, error) {
	buf := make([]byte, 4096)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// removeAll removes base in the directory dir with everything below it, and
// follows no link. It succeeds if there is nothing.
func removeAll(dir int, base string) error {
	err := durable.Unlinkat(dir, base, 0)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EPERM) {
		return err
	}
	// The standard library removes trees without following links.
	if err := durable.RemoveAll(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base)); err != nil {
		return err
	}
	return nil
}

// closeFD closes a descriptor that nothing was written through.
func closeFD(fd int) { _ = unix.Close(fd) }
