//go:build unix

package cli

import (
	"io/fs"
	"syscall"
)

// linkOf says whether a file has several names, and which file it is.
func linkOf(info fs.FileInfo) (id fileID, several bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Nlink < 2 {
		return fileID{}, false
	}
	return fileID{uint64(st.Dev), uint64(st.Ino)}, true //nolint:unconvert,gosec // their types differ by system
}
