package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

const (
	manyPlugins = 200
	hanging     = 10
	rate        = 100 // requests a second
)

// BenchmarkLoad puts load on a daemon with two hundred plugins that all run.
func BenchmarkLoad(b *testing.B) {
	d := daemontest.Start(b)
	f := &fleet{b: b, d: d, c: connect(b, d)}
	archive := daemontest.Tar(b, daemontest.Context(b, daemontest.PluginConfig("-listen", daemontest.PluginListen, "-answer", "silent"),
		testutil.Build(b, "./test/hostile/plugin")))
	for i := range manyPlugins {
		f.names = append(f.names, fmt.Sprintf("many%d", i))
	}
	each(f.names, func(name string) {
		f.create(name, archive)
		f.enable(name)
	})
	if b.Failed() {
		b.FailNow()
	}
	f.running()
	b.Run("hanging", func(b *testing.B) { benchmarkHanging(b, f) })
	b.Run("closed-loop", func(b *testing.B) { benchmarkClosedLoop(b, d) })
	each(f.names, f.disable) // side by side, which removing them is not
}

// benchmarkHanging asks for the list and for single plugins a hundred times a
// second, whether the last answers have come or not, while ten of the plugins
// hang in calls, and while none does. What is compared is the time that 99 of
// 100 answers take at most.
func benchmarkHanging(b *testing.B, f *fleet) {
	tr := &http.Transport{MaxIdleConnsPerHost: rate, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", f.d.Socket())
	}}
	defer tr.CloseIdleConnections()
	get := func(path string) error {
		req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "http://outlet"+path, nil)
		if err != nil {
			return err
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", path, res.Status)
		}
		_, err = io.Copy(io.Discard, res.Body) // decoding it would be the most of what is measured
		return err
	}
	measure := func() time.Duration {
		var mu sync.Mutex
		var took []time.Duration
		var wg sync.WaitGroup
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for i := range 2 * rate {
			<-tick.C
			wg.Go(func() {
				path := "/v1.51/plugins"
				if i%2 == 1 {
					path += "/" + f.names[i%manyPlugins] + "/json"
				}
				t := timed(func() {
					if err := get(path); err != nil {
						b.Error(err)
					}
				})
				mu.Lock()
				defer mu.Unlock()
				took = append(took, t)
			})
		}
		wg.Wait()
		slices.Sort(took)
		return took[len(took)*99/100]
	}
	compare(b, 1.5, func() time.Duration {
		ctx, cancel := context.WithCancel(b.Context())
		var wg sync.WaitGroup
		for i := range hanging {
			wg.Go(func() { // until it is cut
				if _, _, err := f.c.Call(ctx, f.names[2*i+1], "VolumeDriver.List", nil); ctx.Err() == nil {
					b.Errorf("a plugin that hangs has answered: %v", err)
				}
			})
		}
		defer func() { cancel(); wg.Wait() }()
		return measure()
	}, measure)
}

// benchmarkClosedLoop has 64 clients that ask the daemon for the list again and
// again, beside a plain net/http handler in this process that writes the same
// bytes.
func benchmarkClosedLoop(b *testing.B, d *daemontest.Daemon) {
	const request = "GET /v1.51/plugins HTTP/1.1\r\nHost: x\r\n\r\n"
	ours := newClients(b, d.Socket(), request)
	socket := filepath.Join(shortDir(b), "plain")
	l, err := net.Listen("unix", socket)
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(ours.body)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	defer func() { server.Close(); <-done }()
	plain := newClients(b, socket, request)
	compare(b, 2, ours.round, plain.round) // half the throughput is twice the time
}

type clients struct {
	b       *testing.B
	request string
	conns   []net.Conn
	readers []*bufio.Reader
	body    []byte
}

func newClients(b *testing.B, socket, request string) *clients {
	b.Helper()
	c := &clients{b: b, request: request}
	for range 64 {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		c.conns = append(c.conns, conn)
		c.readers = append(c.readers, bufio.NewReaderSize(conn, 64<<10))
	}
	var err error
	if c.body, err = c.ask(0); err != nil {
		b.Fatal(err)
	}
	return c
}

func (c *clients) round() time.Duration {
	return timed(func() {
		var wg sync.WaitGroup
		for i := range c.conns {
			wg.Go(func() {
				for range 20 {
					if _, err := c.ask(i); err != nil {
						c.b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	})
}

func (c *clients) ask(i int) ([]byte, error) {
	if _, err := io.WriteString(c.conns[i], c.request); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(c.readers[i], nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %w", res.Status, os.ErrInvalid)
	}
	return io.ReadAll(res.Body)
}
