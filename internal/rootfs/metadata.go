package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const paxXattr = "SCHILY.xattr."

// finish gives the open file or directory its owner, mode and attributes.
func (a *applier) finish(fd int, hdr *tar.Header) error {
	mode, err := a.owner(hdr, func(uid, gid int) error { return unix.Fchown(fd, uid, gid) })
	if err != nil {
		return err
	}
	if err := unix.Fchmod(fd, mode); err != nil {
		return err
	}
	return a.xattrs(hdr, func(name string, value []byte) error { return unix.Fsetxattr(fd, name, value, 0) })
}

// finishByName does the same, and sets the times, for what cannot be opened.
// It was just made, so the name is no link unless it was made as one.
func (a *applier) finishByName(base string, hdr *tar.Header, chmod bool) error {
	dir := a.parent.fd
	mode, err := a.owner(hdr, func(uid, gid int) error {
		return unix.Fchownat(dir, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		return err
	}
	if chmod {
		if err := unix.Fchmodat(dir, base, mode, 0); err != nil {
			return err
		}
	}
	err = a.xattrs(hdr, func(name string, value []byte) error {
		return unix.Lsetxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, base), name, value, 0)
	})
	if err != nil {
		return err
	}
	return a.times(base, hdr)
}

// owner sets the owner and returns the mode to set after it.
func (a *applier) owner(hdr *tar.Header, chown func(uid, gid int) error) (uint32, error) {
	mode := uint32(hdr.Mode) & 0o7777
	if hdr.Typeflag == tar.TypeDir && !a.privileged {
		mode |= 0o700 // or nothing could be put into it
	}
	if a.privileged {
		err := chown(hdr.Uid, hdr.Gid)
		if err == nil || !a.inUserNS || !errors.Is(err, unix.EINVAL) {
			return mode, err
		}
	} else if hdr.Uid == os.Geteuid() && hdr.Gid == os.Getegid() {
		return mode, nil
	}
	a.skippedOwners++
	// Set-user-id of somebody else must not become that of the current user.
	return mode &^ (unix.S_ISUID | unix.S_ISGID), nil
}

// xattrs sets the extended attributes a root filesystem may have. All others
// speak to the kernel of the host (trusted.*, security labels, the marks of
// overlayfs) and are left out.
func (a *applier) xattrs(hdr *tar.Header, set func(name string, value []byte) error) error {
	for _, key := range slices.Sorted(maps.Keys(hdr.PAXRecords)) {
		name, ok := strings.CutPrefix(key, paxXattr)
		if !ok {
			continue
		}
		if !allowedXattr(name) {
			a.skippedXattrs++
			continue
		}
		err := set(name, []byte(hdr.PAXRecords[key]))
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.EPERM) {
			a.skippedXattrs++
			continue
		}
		if err != nil {
			return fmt.Errorf("extended attribute %q: %w", name, err)
		}
	}
	return nil
}

func allowedXattr(name string) bool {
	switch name {
	case "security.capability", "system.posix_acl_access", "system.posix_acl_default":
		return true
	}
	return strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.")
}

func (a *applier) times(base string, hdr *tar.Header) error {
	accessed := hdr.AccessTime
	if accessed.IsZero() {
		accessed = hdr.ModTime
	}
	ts := []unix.Timespec{timespec(accessed), timespec(hdr.ModTime)}
	return unix.UtimesNanoAt(a.parent.fd, base, ts, unix.AT_SYMLINK_NOFOLLOW)
}

func timespec(t time.Time) unix.Timespec {
	if t.IsZero() {
		return unix.Timespec{}
	}
	return unix.Timespec{Sec: t.Unix(), Nsec: int64(t.Nanosecond())}
}

// hashSeed makes the hashes of names unpredictable, so that no archive can
// contain two that collide.
var hashSeed = maphash.MakeSeed()

func nameHash(name string) uint64 { return maphash.String(hashSeed, name) }

// rawFile writes to a descriptor without the runtime's poller, which regular
// files have no use for.
type rawFile int

func (f rawFile) Write(p []byte) (n int, err error) {
	for n < len(p) {
		m, err := unix.Write(int(f), p[n:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return n, err
		}
		n += m
	}
	return n, nil
}

// copyData copies src to file and, if it is not nil, to sink.
func copyData(file io.Writer, sink io.Writer, src io.Reader, buf []byte) (int64, error) {
	var total int64
	for {
		n, err := src.Read(buf)
		if n > 0 {
			total += int64(n)
			if _, err := file.Write(buf[:n]); err != nil {
				return total, err
			}
			if sink != nil {
				if _, err := sink.Write(buf[:n]); err != nil {
					return total, &hostError{err}
				}
			}
		}
		if errors.Is(err, io.EOF) {
			return total, nil
		}
		if err != nil {
			return total, &readError{err}
		}
	}
}
