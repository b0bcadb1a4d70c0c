package sdk_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/sdk"
)

// A socket is only replaced if nobody serves it, and not whenever that could not
// be found out.
func TestASocketThatIsServedStays(t *testing.T) {
	dir := testutil.TempDir(t)
	path := dir + "/s/p.sock"
	if err := os.Mkdir(dir+"/s", 0o755); err != nil {
		t.Fatal(err)
	}
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	stays := func(ctx context.Context, want string) {
		t.Helper()
		err := sdk.Serve(ctx, sdk.Plugin{Volume: new(volumes)}, inDir(dir))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	stays(ended, context.Canceled.Error())
	// Nobody accepts: the queue is full with the first few.
	for {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	stays(t.Context(), "served by another process")
}
