package host

import (
	"io/fs"

	"golang.org/x/sys/unix"
)

// mountFlags are the flags of a mount that a user namespace below the one the
// mount came from may not take off, with their mount options.
var mountFlags = [...]struct { //nolint:gochecknoglobals // a constant table
	flag   int64
	option string
}{
	{unix.ST_RDONLY, "ro"},
	{unix.ST_NOSUID, "nosuid"},
	{unix.ST_NODEV, "nodev"},
	{unix.ST_NOEXEC, "noexec"},
	{unix.ST_NOATIME, "noatime"},
	{unix.ST_NODIRATIME, "nodiratime"},
	{unix.ST_RELATIME, "relatime"},
}

// MountFlags returns the flags of the mount that path is on, as mount options:
// ro, nosuid, nodev, noexec, noatime, nodiratime, relatime.
func MountFlags(path string) ([]string, error) {
	var st unix.Statfs_t
	for {
		err := unix.Statfs(path, &st)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "statfs", Path: path, Err: err}
		}
		break
	}
	var options []string
	for _, f := range mountFlags {
		if int64(st.Flags)&f.flag != 0 { //nolint:unconvert // an int32 on some machines
			options = append(options, f.option)
		}
	}
	return options, nil
}

// Missing returns those of paths that do not exist, in their order. A path that
// cannot be looked at for another reason counts as existing: whoever uses it
// finds out more.
func Missing(paths []string) []string {
	var missing []string
	for _, path := range paths {
		var st unix.Stat_t
		switch unix.Stat(path, &st) {
		case unix.ENOENT, unix.ENOTDIR:
			missing = append(missing, path)
		}
	}
	return missing
}
