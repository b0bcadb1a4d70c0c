package rootfs

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"

	"github.com/moby/sys/userns"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable"
)

const (
	whiteoutPrefix = ".wh."
	whiteoutMeta   = ".wh..wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// applier writes the entries of one layer into a directory.
type applier struct {
	tree *tree
	buf  []byte

	// privileged says that owners can be set and every directory written.
	privileged bool
	inUserNS   bool

	// written holds hashes of the names this layer wrote, so that its whiteouts
	// spare them. It is nil for a lowest layer, where whiteouts mean nothing.
	written map[uint64]struct{}

	// parent is the directory the last entry went into. Writing into it must
	// not change its time of modification, so the time it had is put back when
	// another takes its place.
	parent struct {
		name  string
		fd    int
		atime unix.Timespec
		mtime unix.Timespec
	}

	skippedDevices, skippedOwners, skippedXattrs int
}

// newApplier applies to dir. upper says that dir holds lower layers already.
func newApplier(dir string, upper bool) (*applier, error) {
	t, err := openTree(dir)
	if err != nil {
		return nil, err
	}
	a := &applier{tree: t, buf: make([]byte, 256<<10), privileged: os.Geteuid() == 0, inUserNS: userns.RunningInUserNS()}
	a.parent.fd = -1
	if upper {
		a.written = map[uint64]struct{}{}
	}
	return a, nil
}

// close ends the layer.
func (a *applier) close() error {
	return errors.Join(a.leaveParent(), a.tree.close())
}

// warnings says what could not be kept.
func (a *applier) warnings() []string {
	var w []string
	add := func(n int, what, why string) {
		if n > 0 {
			w = append(w, fmt.Sprintf("%d %s: %s", n, what, why))
		}
	}
	add(a.skippedDevices, "device nodes left out", "they cannot be made in a user namespace or without root")
	add(a.skippedOwners, "files belong to the current user", "their owners do not exist in this user namespace")
	add(a.skippedXattrs, "extended attributes left out", "the file system or the kernel refuses them")
	return w
}

// entry writes one entry. data is its content, of which sink, if not nil, gets
// a copy.
func (a *applier) entry(hdr *tar.Header, data io.Reader, sink io.Writer) error {
	name := path.Clean("/" + hdr.Name)
	if name == "/" {
		// The snapshotter owns the root directory itself.
		return nil
	}
	err := a.apply(name, hdr, data, sink)
	if err == nil || isHostError(err) {
		return err
	}
	return invalidf("%q: %w", hdr.Name, err)
}

func (a *applier) apply(name string, hdr *tar.Header, data io.Reader, sink io.Writer) error {
	base := path.Base(name)
	if err := a.enterParent(path.Dir(name)); err != nil {
		return err
	}
	if strings.HasPrefix(base, whiteoutPrefix) {
		return a.whiteout(name, base)
	}
	if err := a.create(name, base, hdr, data, sink); err != nil {
		return err
	}
	a.wrote(name)
	return nil
}

// wrote remembers name and the directories on the way to it as this layer's.
func (a *applier) wrote(name string) {
	for ; a.written != nil && name != "/"; name = path.Dir(name) {
		h := nameHash(name)
		if _, known := a.written[h]; known {
			return
		}
		a.written[h] = struct{}{}
	}
}

// create makes the object. What is there already makes place, but for a
// directory where a directory is wanted.
func (a *applier) create(name, base string, hdr *tar.Header, data io.Reader, sink io.Writer) error {
	fd := a.parent.fd
	switch hdr.Typeflag {
	case tar.TypeReg:
		return a.file(base, hdr, data, sink)
	case tar.TypeDir:
		return a.directory(base, hdr)
	case tar.TypeSymlink:
		if err := a.replace(base, func() error { return durable.Symlinkat(hdr.Linkname, fd, base) }); err != nil {
			return err
		}
		return a.finishByName(base, hdr, false)
	case tar.TypeLink:
		return a.hardLink(name, base, hdr.Linkname)
	case tar.TypeFifo:
		if err := a.replace(base, func() error { return durable.Mknodat(fd, base, unix.S_IFIFO|0o600, 0) }); err != nil {
			return err
		}
		return a.finishByName(base, hdr, true)
	case tar.TypeChar, tar.TypeBlock:
		return a.device(base, hdr)
	default:
		return fmt.Errorf("entries of type %q are not supported", string(hdr.Typeflag))
	}
}

func (a *applier) file(base string, hdr *tar.Header, data io.Reader, sink io.Writer) error {
	var fd int
	err := a.replace(base, func() (err error) {
		fd, err = openRetry(a.parent.fd, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	n, err := copyData(rawFile(fd), sink, data, a.buf)
	if err == nil && n != hdr.Size {
		err = io.ErrUnexpectedEOF
	}
	if err == nil {
		err = a.finish(fd, hdr)
	}
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return a.times(base, hdr)
}

func (a *applier) directory(base string, hdr *tar.Header) error {
	err := durable.Mkdirat(a.parent.fd, base, 0o700)
	if errors.Is(err, unix.EEXIST) {
		var st unix.Stat_t
		if err := unix.Fstatat(a.parent.fd, base, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return err
		}
		err = nil
		if st.Mode&unix.S_IFMT != unix.S_IFDIR {
			err = a.replace(base, func() error { return durable.Mkdirat(a.parent.fd, base, 0o700) })
		}
	}
	if err != nil {
		return err
	}
	fd, err := openRetry(a.parent.fd, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	err = a.finish(fd, hdr)
	if cerr := unix.Close(fd); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return a.times(base, hdr)
}

func (a *applier) hardLink(name, base, target string) error {
	target = path.Clean("/" + target)
	if target == name {
		return nil
	}
	dir, err := a.tree.dir(path.Dir(target))
	if err != nil {
		return fmt.Errorf("target %q of the hard link: %w", target, err)
	}
	defer closeFD(dir)
	// Flag 0: the target itself, also where it is a symbolic link.
	err = a.replace(base, func() error { return durable.Linkat(dir, path.Base(target), a.parent.fd, base, 0) })
	if err != nil {
		return fmt.Errorf("hard link to %q: %w", target, err)
	}
	return nil
}

func (a *applier) device(base string, hdr *tar.Header) error {
	if hdr.Devmajor < 0 || hdr.Devmajor > math.MaxUint32 || hdr.Devminor < 0 || hdr.Devminor > math.MaxUint32 {
		return fmt.Errorf("device number %d:%d is out of range", hdr.Devmajor, hdr.Devminor)
	}
	mode, dev := uint32(unix.S_IFBLK), unix.Mkdev(uint32(hdr.Devmajor), uint32(hdr.Devminor))
	if hdr.Typeflag == tar.TypeChar {
		mode = unix.S_IFCHR
		if dev == 0 {
			// To overlayfs this is no device but "nothing is here".
			return errors.New("a character device 0:0 cannot be in a root filesystem")
		}
	}
	if a.inUserNS || !a.privileged {
		a.skippedDevices++
		return nil
	}
	err := a.replace(base, func() error { return durable.Mknodat(a.parent.fd, base, mode|0o600, int(dev)) })
	if errors.Is(err, unix.EPERM) {
		a.skippedDevices++
		return nil
	}
	if err != nil {
		return err
	}
	return a.finishByName(base, hdr, true)
}

// replace runs make, and if something is in its way removes that and runs it
// again.
func (a *applier) replace(base string, make func() error) error {
	err := make()
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	if err := a.remove(a.parent.fd, base); err != nil {
		return err
	}
	return make()
}

// whiteout removes what lower layers hold of a name, or of a directory.
func (a *applier) whiteout(name, base string) error {
	if base != whiteoutOpaque && strings.HasPrefix(base, whiteoutMeta) {
		return nil // other marks of AUFS mean nothing to us
	}
	if a.written == nil {
		return nil
	}
	if base == whiteoutOpaque {
		return a.opaque(path.Dir(name), a.parent.fd)
	}
	hidden := strings.TrimPrefix(base, whiteoutPrefix)
	if hidden == "" || hidden == "." || hidden == ".." {
		return errors.New("not a whiteout")
	}
	return a.hide(path.Join(path.Dir(name), hidden), a.parent.fd, hidden)
}

// hide removes name, base in dir, but for what this layer wrote.
func (a *applier) hide(name string, dir int, base string) error {
	if _, ours := a.written[nameHash(name)]; !ours {
		return a.remove(dir, base)
	}
	fd, err := openRetry(dir, base, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeFD(fd)
	return a.opaque(name, fd)
}

// opaque hides all that is in the directory name, open as dir.
func (a *applier) opaque(name string, dir int) error {
	fd, err := openRetry(dir, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), name)
	names, err := f.Readdirnames(-1)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	for _, base := range names {
		if err := a.hide(path.Join(name, base), dir, base); err != nil {
			return err
		}
	}
	return nil
}

// enterParent makes the directory name the current one.
func (a *applier) enterParent(name string) error {
	if a.parent.fd >= 0 && a.parent.name == name {
		return nil
	}
	if err := a.leaveParent(); err != nil {
		return err
	}
	fd, err := a.tree.mkdirAll(name)
	if err != nil {
		return fmt.Errorf("directory %q: %w", name, err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		closeFD(fd)
		return err
	}
	a.parent.name, a.parent.fd, a.parent.atime, a.parent.mtime = name, fd, st.Atim, st.Mtim
	return nil
}

// leaveParent puts the time of the current directory back and forgets it.
func (a *applier) leaveParent() error {
	if a.parent.fd < 0 {
		return nil
	}
	err := unix.UtimesNanoAt(a.parent.fd, ".", []unix.Timespec{a.parent.atime, a.parent.mtime}, 0)
	if errors.Is(err, unix.ENOENT) {
		err = nil // removed through another of its names
	}
	err = errors.Join(err, unix.Close(a.parent.fd))
	a.parent.fd = -1
	return err
}

// remove removes base in the directory dir. What names lead to may be another
// thing from then on, so the current directory is looked up again.
func (a *applier) remove(dir int, base string) error {
	a.parent.name = ""
	return removeAll(dir, base)
}
