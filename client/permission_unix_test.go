//go:build unix

package client

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
)

func TestARefusedSocketNamesItsGroup(t *testing.T) {
	path := filepath.Join(t.TempDir(), "o.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	refuse := func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: fs.ErrPermission}
	}
	c, err := New(Options{Host: path, Dial: refuse})
	if err != nil {
		t.Fatal(err)
	}
	ping := func() string {
		_, err := c.Ping(t.Context())
		if !errors.Is(err, errdefs.ErrPermissionDenied) || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("got %v", err)
		}
		return err.Error()
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := ping(); !strings.Contains(text, "permission denied for "+path+": only its owner") {
		t.Errorf("%q", text)
	}
	if err := os.Chmod(path, 0o660); err != nil {
		t.Fatal(err)
	}
	gid := strconv.Itoa(os.Getgid())
	want := "it belongs to group " + gid + ", which has no name here: use sudo"
	if g, err := user.LookupGroupId(gid); err == nil {
		want = `it belongs to group "` + g.Name + `": `
	}
	if text := ping(); !strings.Contains(text, want) {
		t.Errorf("%q", text)
	}
	if os.Getgid() == 0 {
		if err := os.Chown(path, 0, 1); err != nil {
			t.Fatal(err)
		}
		g, err := user.LookupGroupId("1")
		if err != nil {
			t.Fatal(err)
		}
		if text := ping(); !strings.Contains(text, `join it with "sudo usermod -aG `+g.Name+` $USER"`) {
			t.Errorf("%q", text)
		}
	}
	c.host.Address = filepath.Join(filepath.Dir(path), "none", "o.sock")
	if text := ping(); !strings.Contains(text, "cannot be entered") {
		t.Errorf("%q", text)
	}
}
