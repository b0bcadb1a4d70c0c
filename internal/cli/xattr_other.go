//go:build !linux

package cli

import "io/fs"

// attributes gives none: those of other systems mean nothing to a plugin.
func attributes(string, fs.FileInfo) (map[string]string, error) { return nil, nil }
