package sdk

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestStartedByHand(t *testing.T) {
	dir := t.TempDir()
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	// As a terminal is, it is a character device and not the null device.
	pty, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer pty.Close()
	env := func(string) string { return "" }
	for _, tt := range []struct {
		name  string
		c     Config
		stdin *os.File
		want  bool
	}{
		{"in a terminal, with no directory", Config{SocketDir: filepath.Join(dir, "none"), Getenv: env}, pty, true},
		{"in a terminal, with the directory", Config{SocketDir: dir, Getenv: env}, pty, false},
		{"by a service manager", Config{SocketDir: filepath.Join(dir, "none"), Getenv: env}, null, false},
		{"with a socket", Config{SocketDir: filepath.Join(dir, "none"), Getenv: func(string) string { return "1" }}, pty, false},
	} {
		if got := byHand(tt.c, tt.stdin); got != tt.want {
			t.Errorf("%s: by hand is %v", tt.name, got)
		}
	}
	e := &byHandError{"hello", "/run/docker/plugins"}
	if !errors.Is(e, ErrByHand) || !strings.Contains(e.Error(), "mkdir -p /run/docker/plugins && hello") {
		t.Errorf("%v", e)
	}
}
