//go:build unix

package client

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
)

// permissionHint says who may use the socket at path and how to become one of
// them.
func permissionHint(path string) string {
	st, err := os.Stat(path)
	if err != nil {
		dir := filepath.Dir(path)
		return fmt.Sprintf("the directory %s cannot be entered: ask whoever runs the daemon, or use sudo", dir)
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return "use sudo"
	}
	gid := strconv.FormatUint(uint64(sys.Gid), 10)
	if st.Mode().Perm()&0o060 != 0o060 {
		return fmt.Sprintf("only its owner (uid %d) may use it (mode %#o): use sudo, or let the daemon serve a group with --group", sys.Uid, st.Mode().Perm())
	}
	g, err := user.LookupGroupId(gid)
	if err != nil {
		return fmt.Sprintf("it belongs to group %s, which has no name here: use sudo", gid)
	}
	if g.Gid == "0" {
		return fmt.Sprintf("it belongs to group %q: use sudo, or let the daemon serve a group of its own with --group", g.Name)
	}
	return fmt.Sprintf("it belongs to group %q: join it with \"sudo usermod -aG %s $USER\" and log in again, or use sudo", g.Name, g.Name)
}
