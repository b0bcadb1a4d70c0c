package plugins_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
)

// descriptors is how many files are open.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("descriptors cannot be counted here: ", err)
	}
	return len(entries)
}

func TestNothingIsLeftOpen(t *testing.T) {
	use := func(t *testing.T) {
		tr := newTree(t)
		p := tr.plugin("p", volumeDriver)
		p.Reply("VolumeDriver.List", struct{}{})
		tr.silent("silent")
		tr.socket(filepath.Join(tr.sock, "dead.sock"))
		r, err := plugins.New(plugins.Config{SocketDir: tr.sock, SpecDirs: []string{tr.a}, ProbeTimeout: 50 * time.Millisecond})
		must(t, err)
		got, err := r.Get(t.Context(), "p", volumeDriver)
		must(t, err)
		must(t, got.Client().CallContext(t.Context(), "VolumeDriver.List", nil, nil))
		_, _ = r.GetAll(t.Context(), volumeDriver) // two of them fail
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		_, _ = r.Get(ctx, "none", volumeDriver) // watches the directories
		_ = r.Watch(ctx, func() {})
		addr, _ := script(t, func(c net.Conn) {
			readRequest(bufio.NewReader(c))
			io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\nx")
			io.Copy(io.Discard, c)
		})
		c, err := plugins.NewClientWithOptions(addr, plugins.ClientOptions{})
		must(t, err)
		s, err := c.StreamContext(t.Context(), "LogDriver.ReadLogs", nil)
		must(t, err)
		_, err = s.Read(make([]byte, 1))
		must(t, err)
		must(t, s.Close())
		must(t, c.Close())
		must(t, r.Close())
		p.Close()
	}
	t.Run("warm up", use)
	goroutines, files := runtime.NumGoroutine(), descriptors(t)
	for range 5 {
		t.Run("use", use)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		g, f := runtime.NumGoroutine(), descriptors(t)
		if g <= goroutines && f <= files {
			return
		}
		if time.Now().After(end) {
			buf := make([]byte, 1<<20)
			t.Fatalf("goroutines %d, were %d; descriptors %d, were %d\n%s", g, goroutines, f, files, buf[:runtime.Stack(buf, true)])
		}
	}
}

// What a call costs beside what encoding/json does.
func TestCallsAllocateLittle(t *testing.T) {
	addr, _ := script(t, func(c net.Conn) {
		b := make([]byte, 1024)
		answer := []byte(ok(`{"Mountpoint":"/m"}`))
		for {
			if n, err := c.Read(b); n == 0 || err != nil {
				return
			}
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	})
	c := client(t, addr, plugins.ClientOptions{})
	ctx := context.Background()
	args := &struct{ Name string }{"data"}
	var ret struct{ Mountpoint string }
	n := testing.AllocsPerRun(200, func() {
		if err := c.CallContext(ctx, "VolumeDriver.Path", args, &ret); err != nil {
			t.Error(err)
		}
	})
	// 7 without the race detector; with it sync.Pool forgets some of what it is
	// given.
	if n > 16 {
		t.Errorf("%v allocations for a call", n)
	}
}
