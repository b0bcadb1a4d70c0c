package main

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// options are how a volume was asked for.
type options struct {
	Type string // "dir" or "tmpfs"
	Size int64  `json:",omitempty"` // bytes, of a tmpfs
	Mode uint32 // permissions, with the set-uid, set-gid and sticky bits
	UID  int    `json:",omitempty"`
	GID  int    `json:",omitempty"`
}

var optionNames = []string{"type", "size", "mode", "uid", "gid"}

// parseOptions reads what a user wrote. defaultSize is that of a tmpfs without
// a size.
func parseOptions(given map[string]string, defaultSize int64) (options, error) {
	o := options{Type: "dir", Mode: 0o755}
	for name := range given {
		if !slices.Contains(optionNames, name) {
			return o, invalidf("unknown option %q: allowed are %s", name, strings.Join(optionNames, ", "))
		}
	}
	if v, ok := given["type"]; ok {
		if v != "dir" && v != "tmpfs" {
			return o, invalidf("option type: %q is neither dir nor tmpfs", v)
		}
		o.Type = v
	}
	if o.Type == "tmpfs" {
		o.Size = defaultSize
	}
	if v, ok := given["size"]; ok {
		if o.Type != "tmpfs" {
			return o, invalidf("option size: only a volume of type=tmpfs has one")
		}
		size, err := parseSize(v)
		if err != nil {
			return o, invalidf("option size: %w", err)
		}
		o.Size = size
	}
	if v, ok := given["mode"]; ok {
		mode, err := strconv.ParseUint(v, 8, 32)
		if err != nil || mode > 0o7777 {
			return o, invalidf("option mode: %q is not an octal number from 0 to 7777", v)
		}
		o.Mode = uint32(mode)
	}
	for name, id := range map[string]*int{"uid": &o.UID, "gid": &o.GID} {
		v, ok := given[name]
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil || n == math.MaxUint32 { // the largest stands for "no id"
			return o, invalidf("option %s: %q is not a number from 0 to %d", name, v, uint32(math.MaxUint32-1))
		}
		*id = int(n)
	}
	return o, nil
}

// parseSize reads a number of bytes with an optional k, m or g.
func parseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	if n := len(s); n > 0 {
		switch s[n-1] {
		case 'k', 'K':
			number, unit = s[:n-1], 1<<10
		case 'm', 'M':
			number, unit = s[:n-1], 1<<20
		case 'g', 'G':
			number, unit = s[:n-1], 1<<30
		}
	}
	n, err := strconv.ParseUint(number, 10, 63)
	if err != nil || n == 0 || int64(n) > math.MaxInt64/unit {
		return 0, fmt.Errorf("%q is not a size: write bytes, or a number with k, m or g, such as 64m", s)
	}
	return int64(n) * unit, nil
}

const maxName = 128

// checkName accepts only names that are one harmless component of a path.
func checkName(name string) error {
	if name == "" {
		return invalidf("a volume needs a name")
	}
	if len(name) > maxName {
		return invalidf("volume name of %d bytes: at most %d are allowed", len(name), maxName)
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return invalidf("volume name %q: letters, digits, _ . and - are allowed, beginning with a letter or digit", name)
		}
	}
	return nil
}
