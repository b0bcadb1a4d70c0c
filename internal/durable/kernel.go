package durable

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Openat is unix.Openat, for files that it may make.
func Openat(dir int, name string, flags int, mode uint32) (int, error) {
	if flags&unix.O_CREAT == 0 {
		return unix.Openat(dir, name, flags, mode)
	}
	return call("create", name, func() (int, error) { return unix.Openat(dir, name, flags, mode) })
}

// Mkdirat is unix.Mkdirat.
func Mkdirat(dir int, name string, mode uint32) error {
	return at("mkdir", name, func() error { return unix.Mkdirat(dir, name, mode) })
}

// Mknodat is unix.Mknodat.
func Mknodat(dir int, name string, mode uint32, dev int) error {
	return at("mknod", name, func() error { return unix.Mknodat(dir, name, mode, dev) })
}

// Symlinkat is unix.Symlinkat.
func Symlinkat(target string, dir int, name string) error {
	return at("symlink", name, func() error { return unix.Symlinkat(target, dir, name) })
}

// Linkat is unix.Linkat.
func Linkat(fromDir int, from string, dir int, name string, flags int) error {
	return at("link", name, func() error { return unix.Linkat(fromDir, from, dir, name, flags) })
}

// Unlinkat is unix.Unlinkat.
func Unlinkat(dir int, name string, flags int) error {
	return at("remove", name, func() error { return unix.Unlinkat(dir, name, flags) })
}

// Rmdir is unix.Rmdir.
func Rmdir(name string) error {
	return at("remove", name, func() error { return unix.Rmdir(name) })
}

// Mknod is unix.Mknod.
func Mknod(name string, mode uint32, dev int) error {
	return at("mknod", name, func() error { return unix.Mknod(name, mode, dev) })
}

// Syncfs makes everything of the file system durable that fd is on.
func Syncfs(fd int) error {
	return at("sync", fmt.Sprintf("fs of fd %d", fd), func() error { return syncfs(fd) })
}

// Unmount is unix.Unmount.
func Unmount(target string, flags int) error {
	return at("unmount", target, func() error { return unix.Unmount(target, flags) })
}
