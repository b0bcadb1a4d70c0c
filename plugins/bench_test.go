package plugins_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet/plugins"
)

type getRequest struct{ Name string }

type getResponse struct {
	Volume *struct{ Name, Mountpoint, CreatedAt string }
	Err    string
}

// volumeServer answers VolumeDriver.Get as a plugin of a usual size does.
func volumeServer(tb testing.TB) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), "p.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		tb.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var req getRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", plugins.VersionMimetype)
		fmt.Fprintf(w, `{"Volume":{"Name":%q,"Mountpoint":"/var/lib/volumes/%s","CreatedAt":"2026-01-02T03:04:05Z"},"Err":""}`, req.Name, req.Name)
	})}
	go func() { _ = srv.Serve(l) }()
	tb.Cleanup(func() { srv.Close() })
	return path
}

// plainHTTP is what the client is measured against: net/http with a warm
// keep-alive pool of 100, encoding and decoding the same JSON.
func plainHTTP(path string) func() error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		MaxIdleConns: 100, MaxIdleConnsPerHost: 100, DisableCompression: true,
	}}
	return func() error {
		var buf bytes.Buffer
		if err := json.NewEncoder(&buf).Encode(getRequest{"data"}); err != nil {
			return err
		}
		req, err := http.NewRequest(http.MethodPost, "http://plugin/VolumeDriver.Get", &buf)
		if err != nil {
			return err
		}
		req.Header.Set("Accept", plugins.VersionMimetype)
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var out getResponse
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
}

func outletClient(tb testing.TB, path string) func() error {
	c, err := plugins.NewClientWithOptions("unix://"+path, plugins.ClientOptions{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return func() error {
		var out getResponse
		if err := c.CallContext(context.Background(), "VolumeDriver.Get", getRequest{"data"}, &out); err != nil {
			return err
		}
		if out.Volume == nil {
			return fmt.Errorf("no volume")
		}
		return nil
	}
}

// leastPairs is how often both sides are measured at least. They take turns, so
// that both meet the same machine, and their medians are compared.
const leastPairs = 9

// compare measures ours beside what limits it, in turns, in milliseconds, and
// reports the medians and their ratio, which is not to exceed aim.
func compare(b *testing.B, aim float64, ours, limit func() float64) {
	b.Helper()
	var o, l []float64
	pair := func() {
		l = append(l, limit())
		o = append(o, ours())
	}
	for b.Loop() {
		pair()
	}
	for len(o) < leastPairs {
		pair()
	}
	slices.Sort(o)
	slices.Sort(l)
	b.ReportMetric(0, "ns/op") // the sum of both says nothing
	b.ReportMetric(o[len(o)/2], "outlet-ms")
	b.ReportMetric(l[len(l)/2], "limit-ms")
	b.ReportMetric(o[len(o)/2]/l[len(l)/2], "ratio")
	b.ReportMetric(aim, "aim")
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// calls makes so many calls, by so many callers side by side, and returns how
// long that took and half of the calls took at most, in milliseconds.
func calls(b *testing.B, callers, n int, call func() error) (all, p50 float64) {
	b.Helper()
	times := make([]time.Duration, n)
	var wg sync.WaitGroup
	began := time.Now()
	for part := range slices.Chunk(times, (n+callers-1)/callers) {
		wg.Go(func() {
			for i := range part {
				start := time.Now()
				if err := call(); err != nil {
					b.Error(err)
				}
				part[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	all = ms(time.Since(began))
	slices.Sort(times)
	return all, ms(times[n/2])
}

// A call of the size of VolumeDriver.Get beside net/http: what 2000 calls take,
// and the median of one.
func BenchmarkCall(b *testing.B) {
	const n = 2000
	for _, callers := range []int{1, 8, 64} {
		path := volumeServer(b)
		ours, theirs := outletClient(b, path), plainHTTP(path)
		b.Run(fmt.Sprintf("callers=%d/time", callers), func(b *testing.B) {
			compare(b, 1/0.9,
				func() float64 { all, _ := calls(b, callers, n, ours); return all },
				func() float64 { all, _ := calls(b, callers, n, theirs); return all })
		})
		b.Run(fmt.Sprintf("callers=%d/p50", callers), func(b *testing.B) {
			compare(b, 1.1,
				func() float64 { _, p50 := calls(b, callers, n, ours); return p50 },
				func() float64 { _, p50 := calls(b, callers, n, theirs); return p50 })
		})
	}
}

// The allocations of a call beside those of net/http, the plugin having none.
func BenchmarkCallAllocations(b *testing.B) {
	path := filepath.Join(b.TempDir(), "p.sock")
	l, err := net.Listen("unix", path)
	must(b, err)
	b.Cleanup(func() { l.Close() })
	body := `{"Volume":{"Name":"data","Mountpoint":"/var/lib/volumes/data","CreatedAt":"2026-01-02T03:04:05Z"},"Err":""}`
	go canned(l, []byte(ok(body)))
	count := func(call func() error) float64 {
		return testing.AllocsPerRun(1000, func() { must(b, call()) })
	}
	ours, theirs := outletClient(b, path), plainHTTP(path)
	o, t := count(ours), count(theirs)
	for b.Loop() {
		must(b, ours())
	}
	b.ReportMetric(0, "ns/op") // see BenchmarkCall
	b.ReportMetric(o, "outlet-allocs")
	b.ReportMetric(t, "limit-allocs")
	b.ReportMetric(o/t, "ratio")
}

// canned gives everybody who sends something the same answer.
func canned(l net.Listener, answer []byte) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 512)
			for {
				n, err := c.Read(buf)
				if err != nil || n == 0 {
					return
				}
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
		}()
	}
}

// many makes a tree with so many plugins that answer, and sockets that nobody
// listens on.
func many(tb testing.TB, live, dead int) *tree {
	tb.Helper()
	tr := newTree(tb)
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n{\"Implements\":[\"VolumeDriver\"]}")
	for i := range live {
		l, err := net.Listen("unix", filepath.Join(tr.sock, fmt.Sprintf("live%04d.sock", i)))
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { l.Close() })
		go canned(l, answer)
	}
	for i := range dead {
		tr.socket(filepath.Join(tr.sock, fmt.Sprintf("dead%04d.sock", i)))
	}
	return tr
}

func newRegistry(b *testing.B, tr *tree) *plugins.Registry {
	r, err := plugins.New(plugins.Config{SocketDir: tr.sock, SpecDirs: []string{tr.a, tr.b}})
	must(b, err)
	return r
}

// getAll is how long GetAll takes, in milliseconds, and to find so many.
func getAll(b *testing.B, r *plugins.Registry, want int) float64 {
	b.Helper()
	began := time.Now()
	all, _ := r.GetAll(context.Background(), volumeDriver) // the dead ones are errors
	took := ms(time.Since(began))
	if len(all) != want {
		b.Fatalf("%d plugins, want %d", len(all), want)
	}
	return took
}

// once reports the median of what each takes, and the time that it should not
// exceed.
func once(b *testing.B, aim time.Duration, each func() float64) {
	b.Helper()
	var times []float64
	for b.Loop() {
		times = append(times, each())
	}
	slices.Sort(times)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(times[len(times)/2], "outlet-ms")
	b.ReportMetric(ms(aim), "aim-ms")
}

// GetAll, the first time and again, with Docker's own patience.
func BenchmarkGetAll(b *testing.B) {
	tr := many(b, 100, 10)
	fresh := func(tr *tree, want int) func() float64 {
		return func() float64 {
			r := newRegistry(b, tr)
			defer r.Close()
			return getAll(b, r, want)
		}
	}
	b.Run("live=100/dead=10/first", func(b *testing.B) { once(b, 200*time.Millisecond, fresh(tr, 100)) })
	b.Run("live=100/dead=10/again", func(b *testing.B) {
		r := newRegistry(b, tr)
		defer r.Close()
		getAll(b, r, 100)
		once(b, 20*time.Millisecond, func() float64 { return getAll(b, r, 100) })
	})

	tr = many(b, 100, 0)
	for i := range 100 {
		tr.silent(fmt.Sprintf("silent%d", i))
	}
	b.Run("live=100/silent=100/first", func(b *testing.B) { once(b, 6*time.Second, fresh(tr, 100)) })
	b.Run("live=100/silent=100/again", func(b *testing.B) {
		r := newRegistry(b, tr)
		defer r.Close()
		getAll(b, r, 100)
		once(b, 20*time.Millisecond, func() float64 { return getAll(b, r, 100) })
	})

	tr = many(b, 1000, 0)
	// What it is measured against: plain activations, all side by side.
	b.Run("live=1000/first", func(b *testing.B) {
		compare(b, 1.2, fresh(tr, 1000), func() float64 { return activateAll(b, tr, 1000) })
	})
	b.Run("live=1000/again", func(b *testing.B) {
		r := newRegistry(b, tr)
		defer r.Close()
		getAll(b, r, 1000)
		once(b, 100*time.Millisecond, func() float64 { return getAll(b, r, 1000) })
	})
}

// activateAll activates so many plugins with net/http.
func activateAll(b *testing.B, tr *tree, n int) float64 {
	began := time.Now()
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			path := filepath.Join(tr.sock, fmt.Sprintf("live%04d.sock", i))
			tp := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}}
			defer tp.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tp}).Post("http://plugin/Plugin.Activate", "", nil)
			if err != nil {
				b.Error(err)
				return
			}
			defer resp.Body.Close()
			var m plugins.Manifest
			if err := json.NewDecoder(resp.Body).Decode(&m); err != nil {
				b.Error(err)
			}
		})
	}
	wg.Wait()
	return ms(time.Since(began))
}

// A stream of 1 GiB in chunks through the client, beside a plain copy over the
// same kind of socket.
func BenchmarkStream(b *testing.B) {
	const total = 1 << 30
	block := bytes.Repeat([]byte("x"), 32<<10)
	serve := func(head, before, after, tail string) string {
		l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s.sock"))
		must(b, err)
		b.Cleanup(func() { l.Close() })
		chunk := []byte(before + string(block) + after)
		send := func(c net.Conn) {
			defer c.Close()
			if head != "" {
				readRequest(bufio.NewReader(c))
				io.WriteString(c, head)
			}
			for range total / len(block) {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
			io.WriteString(c, tail)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go send(c)
			}
		}()
		return l.Addr().String()
	}
	chunked := serve("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "8000\r\n", "\r\n", "0\r\n\r\n")
	plain := serve("", "8000\r\n", "\r\n", "")
	c := client(b, "unix://"+chunked, plugins.ClientOptions{})
	buf := make([]byte, 64<<10)
	for name, from := range map[string]func(io.Reader) io.Reader{
		"read": func(r io.Reader) io.Reader { return struct{ io.Reader }{r} },
		"copy": func(r io.Reader) io.Reader { return r },
	} {
		measure := func(open func() (io.ReadCloser, error)) float64 {
			began := time.Now()
			r, err := open()
			must(b, err)
			defer r.Close()
			n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, from(r), buf)
			if err != nil || n < total {
				b.Errorf("read %d bytes of %d: %v", n, total, err)
			}
			return ms(time.Since(began))
		}
		b.Run(name, func(b *testing.B) {
			compare(b, 1/0.8, func() float64 {
				return measure(func() (io.ReadCloser, error) {
					return c.StreamContext(context.Background(), "LogDriver.ReadLogs", nil)
				})
			}, func() float64 {
				return measure(func() (io.ReadCloser, error) {
					c, err := net.Dial("unix", plain)
					// Without its own WriteTo, so that both use the same buffer.
					return struct {
						io.Reader
						io.Closer
					}{c, c}, err
				})
			})
		})
	}
}
