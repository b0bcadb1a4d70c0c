package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Mkdir is os.Mkdir.
func Mkdir(name string, mode fs.FileMode) error {
	return at("mkdir", name, func() error { return os.Mkdir(name, mode) })
}

// MkdirAll is os.MkdirAll. What is there already is nothing to do.
func MkdirAll(name string, mode fs.FileMode) error {
	if fi, err := os.Stat(name); err == nil && fi.IsDir() {
		return nil
	}
	return at("mkdir", name, func() error { return os.MkdirAll(name, mode) })
}

// MkdirTemp is os.MkdirTemp.
func MkdirTemp(dir, pattern string) (string, error) {
	return call("mkdir", dir, func() (string, error) { return os.MkdirTemp(dir, pattern) })
}

// WriteFile is os.WriteFile. Neither the file nor its name is durable, and a
// crash may leave a part of it: see [ReplaceFile].
func WriteFile(name string, data []byte, mode fs.FileMode) error {
	return at("write", name, func() error { return os.WriteFile(name, data, mode) })
}

// ReplaceFile gives a file new content, durably: after a crash it has the old
// or the new. What is written lies beside it meanwhile, under its name with a
// dot before it and ".tmp" behind.
func ReplaceFile(name string, data []byte, mode fs.FileMode) error {
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".tmp")
	f, err := OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	if _, err = WriteAt(f, data, 0); err == nil {
		err = Sync(f)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, Remove(tmp))
	}
	return SyncDir(filepath.Dir(name))
}

// OpenFile is os.OpenFile, for files that it may make.
func OpenFile(name string, flag int, mode fs.FileMode) (*os.File, error) {
	return call("create", name, func() (*os.File, error) { return os.OpenFile(name, flag, mode) })
}

// WriteAt is f.WriteAt.
func WriteAt(f *os.File, b []byte, off int64) (int, error) {
	return call("write", f.Name(), func() (int, error) { return f.WriteAt(b, off) })
}

// Truncate is f.Truncate.
func Truncate(f *os.File, size int64) error {
	return at("truncate", f.Name(), func() error { return f.Truncate(size) })
}

// Rename is os.Rename.
func Rename(from, to string) error {
	return at("rename", to, func() error { return os.Rename(from, to) })
}

// Symlink is os.Symlink.
func Symlink(target, name string) error {
	return at("symlink", name, func() error { return os.Symlink(target, name) })
}

// Remove is os.Remove.
func Remove(name string) error {
	return at("remove", name, func() error { return os.Remove(name) })
}

// RemoveAll is os.RemoveAll.
func RemoveAll(name string) error {
	return at("remove", name, func() error { return os.RemoveAll(name) })
}

// RemoveAllIn is root.RemoveAll.
func RemoveAllIn(root *os.Root, name string) error {
	return at("remove", name, func() error { return root.RemoveAll(name) })
}

// Chmod is os.Chmod.
func Chmod(name string, mode fs.FileMode) error {
	return at("chmod", name, func() error { return os.Chmod(name, mode) })
}

// Chown is os.Chown.
func Chown(name string, uid, gid int) error {
	return at("chown", name, func() error { return os.Chown(name, uid, gid) })
}

// Lchown is os.Lchown.
func Lchown(name string, uid, gid int) error {
	return at("chown", name, func() error { return os.Lchown(name, uid, gid) })
}

// Sync makes what was written to a file durable; its name is not.
func Sync(f *os.File) error {
	return at("sync", f.Name(), f.Sync)
}

// SyncDir makes the entries of a directory durable. Some file systems have
// nothing to sync; that is no error.
func SyncDir(dir string) error {
	return at("sync", dir, func() error {
		f, err := os.Open(dir)
		if err != nil {
			return err
		}
		err = f.Sync()
		if errors.Is(err, unix.EINVAL) {
			err = nil
		}
		return errors.Join(err, f.Close())
	})
}
