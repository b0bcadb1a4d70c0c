package probe

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

// listen makes a socket in dir that accepts until the test ends.
func listen(t testing.TB, dir, name string) {
	t.Helper()
	l, err := net.Listen("unix", filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l)
}

func serve(t testing.TB, l net.Listener) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
}

// wait runs WaitSocket and returns its answer on a channel.
func wait(ctx context.Context, t *testing.T, target Target, exited <-chan struct{}) <-chan error {
	t.Helper()
	return waitWith(ctx, nil, target, exited)
}

func waitWith(ctx context.Context, p *Prober, target Target, exited <-chan struct{}) <-chan error {
	done := make(chan error, 1)
	if p != nil {
		go func() { done <- p.WaitSocket(ctx, target, exited) }()
		return done
	}
	go func() { done <- WaitSocket(ctx, target, exited) }()
	return done
}

func answer(t *testing.T, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("no answer in a minute")
		return nil
	}
}

func TestASocketThatIsThereIsReadyAtOnce(t *testing.T) {
	dir := testutil.TempDir(t)
	listen(t, dir, "s")
	if err := WaitSocket(t.Context(), Target{dir, "s"}, nil); err != nil {
		t.Fatal(err)
	}
}

func TestASocketThatAppearsIsReady(t *testing.T) {
	base := testutil.TempDir(t)
	for name, c := range map[string]struct {
		dir    string
		appear func(t *testing.T, dir string)
	}{
		"in a directory that is there": {dir: base, appear: func(t *testing.T, dir string) { listen(t, dir, "s") }},
		"in one that is made later": {dir: base + "/x/y", appear: func(t *testing.T, dir string) {
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			listen(t, dir, "s")
		}},
		"moved into place": {dir: base, appear: func(t *testing.T, dir string) {
			listen(t, dir, "tmp")
			if err := os.Rename(dir+"/tmp", dir+"/s"); err != nil {
				t.Fatal(err)
			}
		}},
		"in what a link that replaces the directory leads to": {dir: base + "/d", appear: func(t *testing.T, dir string) {
			if err := os.Mkdir(base+"/real", 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink(base+"/real", dir); err != nil {
				t.Fatal(err)
			}
			listen(t, base+"/real", "s")
		}},
		"after a file of its name": {dir: base, appear: func(t *testing.T, dir string) {
			if err := os.WriteFile(dir+"/s", nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(dir + "/s"); err != nil {
				t.Fatal(err)
			}
			listen(t, dir, "s")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Cleanup(func() { _ = os.Remove(base + "/s") })
			done := wait(t.Context(), t, Target{c.dir, "s"}, nil)
			select {
			case err := <-done:
				t.Fatalf("it answered before there was anything: %v", err)
			case <-time.After(50 * time.Millisecond):
			}
			c.appear(t, c.dir)
			if err := answer(t, done); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestASocketIsReadyOnlyWhenItAccepts(t *testing.T) {
	dir := testutil.TempDir(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "socket")
	defer file.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: dir + "/s"}); err != nil {
		t.Fatal(err)
	}
	done := wait(t.Context(), t, Target{dir, "s"}, nil)
	select {
	case err := <-done:
		t.Fatalf("it answered though nobody listens: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	if err := unix.Listen(fd, 1); err != nil {
		t.Fatal(err)
	}
	if err := answer(t, done); err != nil {
		t.Fatal(err)
	}
}

func TestTheEndOfTheProcessEndsTheWait(t *testing.T) {
	exited := make(chan struct{})
	done := wait(t.Context(), t, Target{testutil.TempDir(t), "s"}, exited)
	close(exited)
	if err := answer(t, done); !errors.Is(err, ErrExited) {
		t.Fatalf("error %v", err)
	}
}

func TestWhatWasSeenIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, dir string)
		seen Seen
		text string
	}{
		"nothing":      {seen: SeenNone, text: "it never listened on its socket s"},
		"no directory": {make: func(t *testing.T, dir string) { _ = os.Remove(dir) }, seen: SeenNoDir, text: "the directory DIR for its socket does not exist"},
		"other sockets": {make: func(t *testing.T, dir string) {
			listen(t, dir, "zz.sock")
			listen(t, dir, "a\x1bb.sock")
			_ = os.WriteFile(dir+"/file", nil, 0o600)
		}, seen: SeenNone, text: `it never listened on its socket s; it listens on "a\x1bb.sock", zz.sock instead`},
		"a file": {make: func(t *testing.T, dir string) { _ = os.WriteFile(dir+"/s", nil, 0o600) }, seen: SeenNoSock, text: "s is a file, not a socket"},
		"a link": {make: func(t *testing.T, dir string) { listen(t, dir, "t"); _ = os.Symlink("t", dir+"/s") }, seen: SeenLink, text: "s is a symbolic link, not a socket; it listens on t instead"},
		"a dead socket": {make: func(t *testing.T, dir string) {
			l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dir + "/s"})
			if err != nil {
				t.Fatal(err)
			}
			l.SetUnlinkOnClose(false)
			_ = l.Close()
		}, seen: SeenSocket, text: "its socket s is there but accepts no connection: connection refused"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(testutil.TempDir(t), "d")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if c.make != nil {
				c.make(t, dir)
			}
			cause := errors.New("the start took too long")
			patience := 100 * time.Millisecond
			if c.seen == SeenSocket { // it has to be tried before that is over
				patience = 2 * time.Second
			}
			ctx, cancel := context.WithTimeoutCause(t.Context(), patience, cause)
			defer cancel()
			err := WaitSocket(ctx, Target{dir, "s"}, nil)
			var e *NotReadyError
			if !errors.As(err, &e) || !errors.Is(err, cause) {
				t.Fatalf("error %v", err)
			}
			if e.Seen != c.seen || e.Error() != strings.ReplaceAll(c.text, "DIR", dir) {
				t.Errorf("seen %d, %q, want %d, %q", e.Seen, e, c.seen, c.text)
			}
		})
	}
}

func TestNamesThatAreNoneAreRefused(t *testing.T) {
	for _, target := range []Target{{"/x", ""}, {"/x", "a/b"}, {"x", "s"}, {"/x", "../s"}} {
		if err := WaitSocket(t.Context(), target, nil); err == nil {
			t.Errorf("%v was waited for", target)
		}
	}
}

func TestDeepSocketsAreDialled(t *testing.T) {
	dir := testutil.TempDir(t)
	deep := dir
	for range 4 {
		deep = filepath.Join(deep, strings.Repeat("d", 60))
	}
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(deep, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	listen(t, "/proc/self/fd/"+strconv.Itoa(fd), "s")
	if err := WaitSocket(t.Context(), Target{deep, "s"}, nil); err != nil {
		t.Fatal(err)
	}
	conn, err := Dial(t.Context(), deep+"/s")
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}

func TestDialNamesThePath(t *testing.T) {
	path := testutil.TempDir(t) + "/s"
	_, err := Dial(t.Context(), path)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
	_, err = Dial(t.Context(), path)
	if !errors.Is(err, unix.ECONNREFUSED) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "/proc/") {
		t.Errorf("error %v", err)
	}
}

func TestManyWaitsAtOnce(t *testing.T) {
	p := New()
	defer p.Close()
	for name, p := range map[string]*Prober{
		"with one prober": p,
		"with one each, more than the kernel gives a user": nil,
	} {
		t.Run(name, func(t *testing.T) {
			dir := testutil.TempDir(t)
			var waits []<-chan error
			for i := range 200 {
				waits = append(waits, waitWith(t.Context(), p, Target{dir, "s" + strconv.Itoa(i%10)}, nil))
			}
			for i := range 10 {
				listen(t, dir, "s"+strconv.Itoa(i))
			}
			for _, w := range waits {
				if err := answer(t, w); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if n := len(p.w.waits); n != 0 {
		t.Errorf("%d watches are left", n)
	}
}

// How long after a socket begins to accept it is known to: the median of the
// run is the figure of interest.
func BenchmarkNoticeSocket(b *testing.B) {
	dir := testutil.TempDir(b)
	p := New()
	defer p.Close()
	var delays []time.Duration
	for b.Loop() {
		done := make(chan error, 1)
		go func() { done <- p.WaitSocket(b.Context(), Target{dir, "s"}, nil) }()
		<-time.After(30 * time.Millisecond)
		l, err := net.Listen("unix", dir+"/s")
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
		delays = append(delays, time.Since(start))
		_ = l.Close()
	}
	slices.Sort(delays)
	b.ReportMetric(float64(delays[len(delays)/2].Microseconds()), "µs/notice")
}

func TestADirectoryThatCannotBeReadIsNotASocketThatIsNotThere(t *testing.T) {
	dir := filepath.Join(testutil.TempDir(t), "d")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	e := look(Target{Dir: dir + "/s", Name: "x"}, nil, nil)
	if e.Seen != SeenUnknown || !errors.Is(e, unix.ENOTDIR) || !strings.Contains(e.Error(), "cannot be seen: not a directory") {
		t.Errorf("seen %d: %v", e.Seen, e)
	}
}
