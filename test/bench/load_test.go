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

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

const (
	manyPlugins = 200
	hanging     = 10
	rate        = 100 // requests a second
)

// BenchmarkHanging asks for the list and for single plugins a hundred times a
// second, whether the last answers have come or not, with ten of two hundred
// plugins hanging in calls, and with none. What is compared is the time that 99
// of 100 answers take at most.
func BenchmarkHanging(b *testing.B) {
	d := daemontest.Start(b)
	f := &fleet{b: b, d: d, c: connect(b, d)}
	archive := daemontest.Tar(b, daemontest.Context(b, daemontest.PluginConfig("-listen", daemontest.PluginListen, "-answer", "silent"),
		testutil.Build(b, "./test/hostile/plugin")))
	var all []string
	for i := range manyPlugins {
		all = append(all, fmt.Sprintf("many%d", i))
	}
	each(all, func(name string) { f.create(name, archive) })
	f.names = all[:hanging]
	each(f.names, f.enable)
	if b.Failed() {
		b.FailNow()
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
				t := timed(func() {
					var err error
					if i%2 == 0 {
						_, err = f.c.List(b.Context(), outlet.ListFilter{})
					} else {
						_, err = f.c.Inspect(b.Context(), all[i%manyPlugins])
					}
					if err != nil {
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
		for _, name := range f.names {
			wg.Go(func() { _, _, _ = f.c.Call(ctx, name, "VolumeDriver.List", nil) }) // until it is cut
		}
		defer func() { cancel(); wg.Wait() }()
		return measure()
	}, measure)
}

// BenchmarkClosedLoop has 64 clients that ask the daemon for the list of fifty
// plugins again and again, beside a plain net/http handler in this process that
// writes the same bytes.
func BenchmarkClosedLoop(b *testing.B) {
	d := daemontest.Start(b)
	f := &fleet{b: b, d: d, c: connect(b, d)}
	archive := daemontest.Tar(b, daemontest.Dirvol(b))
	for i := range fleetSize {
		f.names = append(f.names, fmt.Sprintf("fleet%d", i))
	}
	each(f.names, func(name string) { f.create(name, archive) })
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
