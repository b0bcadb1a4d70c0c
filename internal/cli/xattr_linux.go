package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

// attributes gives the extended attributes that go with a file: its
// capabilities, and what users attached to it. Others belong to this machine.
func attributes(path string, info fs.FileInfo) (map[string]string, error) {
	if !info.Mode().IsRegular() && !info.IsDir() {
		return nil, nil
	}
	names, err := readAttribute(func(buf []byte) (int, error) { return unix.Llistxattr(path, buf) })
	if err != nil {
		return nil, fmt.Errorf("list extended attributes: %w", err)
	}
	var records map[string]string
	for name := range strings.SplitSeq(string(names), "\x00") {
		if name != "security.capability" && !strings.HasPrefix(name, "user.") {
			continue
		}
		value, err := readAttribute(func(buf []byte) (int, error) { return unix.Lgetxattr(path, name, buf) })
		if err != nil {
			return nil, fmt.Errorf("read extended attribute %s: %w", name, err)
		}
		if records == nil {
			records = make(map[string]string)
		}
		records["SCHILY.xattr."+name] = string(value)
	}
	return records, nil
}

// readAttribute asks for the length, then for the value, again if it grew
// between. What is not supported or not there any more is empty.
func readAttribute(get func([]byte) (int, error)) ([]byte, error) {
	for {
		n, err := get(nil)
		if errors.Is(err, unix.ENOTSUP) || errors.Is(err, unix.ENODATA) {
			return nil, nil
		}
		if err != nil || n == 0 {
			return nil, err
		}
		buf := make([]byte, n)
		n, err = get(buf)
		switch {
		case errors.Is(err, unix.ERANGE):
			continue
		case errors.Is(err, unix.ENODATA):
			return nil, nil
		case err != nil:
			return nil, err
		}
		return buf[:n], nil
	}
}
