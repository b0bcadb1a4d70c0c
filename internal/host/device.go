package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
)

// Device is a device node of the host.
type Device struct {
	// Path is where the node is wanted: what was asked for, or below it.
	Path         string
	Type         string // "c" or "b"
	Major, Minor int64
	Mode         fs.FileMode // permission bits
	UID, GID     uint32
}

// maxDevices bounds what a walk through a directory may find.
const maxDevices = 4096

var errNotADevice = errors.New("not a device node")

// Devices returns the device nodes a path stands for: the node itself, the one
// a symbolic link leads to (under the link's path), or all nodes below a
// directory. It fails with errdefs.ErrInvalidArgument if there is none.
func Devices(path string) ([]Device, error) {
	found, err := devices(path)
	if err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument,
			"error gathering device information while adding custom device %q: %w", path, err)
	}
	return found, nil
}

func devices(path string) ([]Device, error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, err
	}
	d, err := deviceAt(real)
	if err == nil {
		d.Path = path
		return []Device{d}, nil
	}
	info, statErr := os.Stat(real)
	if statErr != nil {
		return nil, statErr
	}
	if !info.IsDir() {
		return nil, err
	}
	found, err := devicesBelow(real, path)
	if err == nil && len(found) == 0 {
		err = errNotADevice
	}
	return found, err
}

// devicesBelow walks through dir and returns its nodes as if dir were at path.
// Links inside are not followed: what they lead to has a path of its own.
func devicesBelow(dir, path string) ([]Device, error) {
	var found []Device
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // hot-plugged devices come and go
			return nil
		case err != nil:
			return err
		case e.IsDir():
			// Instances of filesystems, not devices: the plugin has its own.
			switch e.Name() {
			case "pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev":
				return filepath.SkipDir
			}
			return nil
		case e.Name() == "console" || e.Type()&fs.ModeDevice == 0:
			return nil
		}
		d, err := deviceAt(p)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotADevice) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(found) == maxDevices {
			return fmt.Errorf("more than %d device nodes", maxDevices)
		}
		d.Path = filepath.Join(path, p[len(dir):])
		found = append(found, d)
		return nil
	})
	return found, err
}

// deviceAt looks at the node path, which is no link.
func deviceAt(path string) (Device, error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return Device{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	number := uint64(st.Rdev) //nolint:unconvert // a uint32 on some machines
	d := Device{
		Path:  path,
		Major: int64(unix.Major(number)),
		Minor: int64(unix.Minor(number)),
		Mode:  fs.FileMode(st.Mode & 0o777),
		UID:   st.Uid,
		GID:   st.Gid,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFCHR:
		d.Type = "c"
	case unix.S_IFBLK:
		d.Type = "b"
	default:
		return Device{}, errNotADevice
	}
	return d, nil
}
