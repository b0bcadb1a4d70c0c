package main

import (
	"errors"
	"strings"
	"testing"
)

func TestParseOptions(t *testing.T) {
	for _, tt := range []struct {
		name  string
		given map[string]string
		want  options
		err   string
	}{
		{"nothing is a directory of root", nil, options{Type: "dir", Mode: 0o755}, ""},
		{"a tmpfs takes the default size", map[string]string{"type": "tmpfs"}, options{Type: "tmpfs", Size: 1000, Mode: 0o755}, ""},
		{"everything", map[string]string{"type": "tmpfs", "size": "2G", "mode": "1770", "uid": "33", "gid": "44"}, options{Type: "tmpfs", Size: 2 << 30, Mode: 0o1770, UID: 33, GID: 44}, ""},
		{"an unknown option names those there are", map[string]string{"sise": "1"}, options{}, `unknown option "sise": allowed are type, size, mode, uid, gid`},
		{"an unknown type", map[string]string{"type": "nfs"}, options{}, `option type: "nfs" is neither dir nor tmpfs`},
		{"a directory has no size", map[string]string{"size": "1m"}, options{}, "option size: only a volume of type=tmpfs has one"},
		{"a size of letters", map[string]string{"type": "tmpfs", "size": "big"}, options{}, `option size: "big" is not a size`},
		{"a negative size", map[string]string{"type": "tmpfs", "size": "-1"}, options{}, `option size: "-1" is not a size`},
		{"a size of nothing", map[string]string{"type": "tmpfs", "size": ""}, options{}, `option size: "" is not a size`},
		{"a size beyond all numbers", map[string]string{"type": "tmpfs", "size": "9223372036854775807g"}, options{}, "is not a size"},
		{"a decimal mode", map[string]string{"mode": "0988"}, options{}, `option mode: "0988" is not an octal number from 0 to 7777`},
		{"a mode with a file type", map[string]string{"mode": "100755"}, options{}, "is not an octal number"},
		{"a user by name", map[string]string{"uid": "root"}, options{}, `option uid: "root" is not a number from 0 to 4294967294`},
		{"the id that is no id", map[string]string{"gid": "4294967295"}, options{}, "option gid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseOptions(tt.given, 1000)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !errors.Is(err, errInvalid) {
					t.Fatalf("got %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "Data_1.x-y": true, strings.Repeat("a", 128): true,
		"": false, ".": false, "..": false, "../x": false, "a/b": false, "/a": false, ".hidden": false, "-f": false,
		"a\x00b": false, "a b": false, "a\nb": false, "ä": false, strings.Repeat("a", 129): false,
	} {
		if err := checkName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func FuzzParseSize(f *testing.F) {
	for _, s := range []string{"1", "64m", "1G", "0", "-1", "9223372036854775807", "9999999999g", "m", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err == nil && n <= 0 {
			t.Errorf("%q is %d", s, n)
		}
	})
}

// A name that is accepted stays one component below its directory.
func FuzzCheckName(f *testing.F) {
	for _, s := range []string{"a", "..", "a/../b", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if checkName(s) == nil && (s == "" || s == "." || s == ".." || strings.ContainsAny(s, "/\\\x00\n")) {
			t.Errorf("%q accepted", s)
		}
	})
}
