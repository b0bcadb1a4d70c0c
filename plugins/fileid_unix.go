//go:build unix

package plugins

import (
	"io/fs"
	"syscall"
)

// identify tells a file from all others, and from itself after a change.
func identify(path string, fi fs.FileInfo) fileID {
	id := fileID{path: path, mtime: fi.ModTime(), size: fi.Size()}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		id.dev, id.ino = uint64(st.Dev), uint64(st.Ino) //nolint:unconvert // types differ between systems
	}
	return id
}
