package crash

import (
	"context"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable/failpoint"
)

// forgetful is a file system that knows what of it would survive the loss of
// power, by the least that POSIX promises: of a file what it held when it was
// last synced, of a directory the entries it had when it was last synced, and
// nothing of either if it never was. Syncing one makes nothing else durable, no
// parent and no child. Real file systems keep more; none may keep less.
//
// The kernel tells a FUSE server of fsync, but not of syncfs: that the daemon
// under test tells by an extended attribute.
type forgetful struct {
	live   string // the directory that is shown
	shadow string // synced contents of files, by key
	server *fuse.Server

	mu     sync.Mutex
	synced map[inode]*memory
}

// inode tells files apart; numbers alone are used again.
type inode struct {
	ino  uint64
	born unix.StatxTimestamp
}

func (i inode) String() string { return fmt.Sprintf("%d-%d-%d", i.ino, i.born.Sec, i.born.Nsec) }

// memory is what of a file is durable.
type memory struct {
	mode    uint32
	target  string           // of a symbolic link
	entries map[string]inode // of a directory
	content bool             // there is a synced content
}

// mountForgetful shows live at point. What is in live is durable.
func mountForgetful(t testing.TB, live, shadow, point string) (*forgetful, error) {
	t.Helper()
	f := &forgetful{live: live, shadow: shadow, synced: make(map[inode]*memory)}
	if err := f.syncTree(live); err != nil {
		return nil, err
	}
	root, err := fs.NewLoopbackRoot(live)
	if err != nil {
		return nil, err
	}
	data := root.(*fs.LoopbackNode).RootData // it is one
	//nolint:staticcheck // what is to replace it wraps children of nodes that know how to
	data.NewNode = func(data *fs.LoopbackRoot, _ *fs.Inode, _ string, _ *syscall.Stat_t) fs.InodeEmbedder {
		return &node{LoopbackNode: fs.LoopbackNode{RootData: data}, disk: f}
	}
	top := &node{LoopbackNode: fs.LoopbackNode{RootData: data}, disk: f}
	data.RootNode = top
	second := time.Second
	f.server, err = fs.Mount(point, top, &fs.Options{
		EntryTimeout: &second, AttrTimeout: &second,
		MountOptions: fuse.MountOptions{AllowOther: true, DirectMount: true, FsName: "forgetful", Name: "forgetful", Logger: log.New(io.Discard, "", 0)},
	})
	return f, err
}

// node is a file or directory of a forgetful file system.
type node struct {
	fs.LoopbackNode
	disk *forgetful
}

func (n *node) path() string {
	return filepath.Join(n.disk.live, n.Path(n.Root()))
}

// Fsync is what both fsync and fdatasync are.
func (n *node) Fsync(_ context.Context, fh fs.FileHandle, _ uint32) syscall.Errno {
	n.disk.mu.Lock()
	defer n.disk.mu.Unlock()
	var err error
	if n.IsDir() {
		err = n.disk.syncDir(n.path())
	} else {
		err = n.disk.syncFile(n.path(), fh)
	}
	if err != nil && !os.IsNotExist(err) { // it was removed while it is open
		return fs.ToErrno(err)
	}
	return 0
}

// OpendirHandle hides the method of that name: a handle of the library would
// take the sync of a directory to itself.
func (n *node) OpendirHandle() {}

// Setxattr takes the daemon's word for syncfs.
func (n *node) Setxattr(ctx context.Context, attr string, data []byte, flags uint32) syscall.Errno {
	if attr != failpoint.SyncfsAttr {
		return n.LoopbackNode.Setxattr(ctx, attr, data, flags)
	}
	if err := n.disk.syncAll(); err != nil {
		return fs.ToErrno(err)
	}
	return 0
}

func (f *forgetful) syncAll() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncTree(f.live)
}

// stat returns what a file is.
func stat(path string) (inode, unix.Statx_t, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_BASIC_STATS|unix.STATX_BTIME, &st)
	return inode{st.Ino, st.Btime}, st, err
}

// meet returns the memory of a file, with its type and mode of now.
func (f *forgetful) meet(path string) (inode, *memory, error) {
	key, st, err := stat(path)
	if err != nil {
		return key, nil, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	m := f.synced[key]
	if m == nil {
		m = &memory{entries: make(map[string]inode)}
		f.synced[key] = m
	}
	m.mode = uint32(st.Mode)
	if m.mode&unix.S_IFMT == unix.S_IFLNK {
		m.target, err = os.Readlink(path)
	}
	return key, m, err
}

func (f *forgetful) syncDir(path string) error {
	_, m, err := f.meet(path)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return err
	}
	clear(m.entries)
	for _, e := range entries {
		key, _, err := f.meet(filepath.Join(path, e.Name()))
		if err != nil {
			return err
		}
		m.entries[e.Name()] = key
	}
	return nil
}

func (f *forgetful) syncFile(path string, _ fs.FileHandle) error {
	key, m, err := f.meet(path)
	if err != nil || m.mode&unix.S_IFMT != unix.S_IFREG {
		return err
	}
	m.content = true
	return copyFile(path, filepath.Join(f.shadow, key.String()))
}

// syncTree syncs everything from path on.
func (f *forgetful) syncTree(path string) error {
	_, m, err := f.meet(path)
	if err != nil {
		return err
	}
	if m.mode&unix.S_IFMT != unix.S_IFDIR {
		return f.syncFile(path, nil)
	}
	if err := f.syncDir(path); err != nil {
		return err
	}
	for name := range m.entries {
		if err := f.syncTree(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}

// survive writes to the directory to what is left after the loss of power. With
// names, all names are as they were last: metadata went ahead of data.
func (f *forgetful) survive(to string, names bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, _, err := f.meet(f.live)
	if err != nil {
		return err
	}
	if names {
		if err := f.syncNames(f.live); err != nil {
			return err
		}
	}
	return f.restore(key, to)
}

// syncNames syncs the directories alone.
func (f *forgetful) syncNames(path string) error {
	_, m, err := f.meet(path)
	if err != nil || m.mode&unix.S_IFMT != unix.S_IFDIR {
		return err
	}
	if err := f.syncDir(path); err != nil {
		return err
	}
	for name := range maps.Clone(m.entries) {
		if err := f.syncNames(filepath.Join(path, name)); err != nil {
			return err
		}
	}
	return nil
}

func (f *forgetful) restore(key inode, to string) error {
	m := f.synced[key]
	perm := os.FileMode(m.mode & 0o777)
	switch m.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if err := os.Mkdir(to, 0o700); err != nil {
			return err
		}
		for name, child := range m.entries {
			if err := f.restore(child, filepath.Join(to, name)); err != nil {
				return err
			}
		}
		return os.Chmod(to, perm)
	case unix.S_IFLNK:
		return os.Symlink(m.target, to)
	case unix.S_IFREG:
		if !m.content {
			return os.WriteFile(to, nil, perm)
		}
		if err := copyFile(filepath.Join(f.shadow, key.String()), to); err != nil {
			return err
		}
		return os.Chmod(to, perm)
	default:
		return nil // sockets and pipes mean nothing without their process
	}
}
