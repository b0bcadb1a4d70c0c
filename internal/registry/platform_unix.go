//go:build unix

package registry

import (
	"strings"

	"golang.org/x/sys/unix"
)

// armVariant is what the kernel says of the processor.
func armVariant() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "v6"
	}
	switch m := unix.ByteSliceToString(u.Machine[:]); {
	case strings.HasPrefix(m, "armv5"):
		return "v5"
	case strings.HasPrefix(m, "armv6"):
		return "v6"
	}
	return "v7"
}
