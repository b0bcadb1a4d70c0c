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
	"sync"
	"testing"

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

func BenchmarkCall(b *testing.B) {
	for _, callers := range []int{1, 8, 64} {
		for _, kind := range []string{"outlet", "nethttp"} {
			b.Run(fmt.Sprintf("%s/callers=%d", kind, callers), func(b *testing.B) {
				path := volumeServer(b)
				call := plainHTTP(path)
				if kind == "outlet" {
					call = outletClient(b, path)
				}
				b.ReportAllocs()
				var wg sync.WaitGroup
				next := make(chan struct{}, 1024)
				for range callers {
					wg.Go(func() {
						for range next {
							if err := call(); err != nil {
								b.Error(err)
							}
						}
					})
				}
				b.ResetTimer()
				cpu := cpuTime()
				for range b.N {
					next <- struct{}{}
				}
				close(next)
				wg.Wait()
				b.ReportMetric(float64(cpuTime()-cpu)/float64(b.N), "cpu-ns/op")
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			})
		}
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
		go func() {
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
		}()
	}
	for i := range dead {
		tr.socket(filepath.Join(tr.sock, fmt.Sprintf("dead%04d.sock", i)))
	}
	return tr
}

func BenchmarkGetAll(b *testing.B) {
	for _, n := range [][2]int{{100, 10}, {1000, 0}} {
		tr := many(b, n[0], n[1])
		getAll := func(b *testing.B, r *plugins.Registry) {
			all, _ := r.GetAll(context.Background(), volumeDriver) // the dead ones are errors
			if len(all) != n[0] {
				b.Fatalf("%d plugins", len(all))
			}
		}
		b.Run(fmt.Sprintf("live=%d/dead=%d/first", n[0], n[1]), func(b *testing.B) {
			for range b.N {
				b.StopTimer()
				r, err := plugins.New(plugins.Config{SocketDir: tr.sock, SpecDirs: []string{tr.a, tr.b}})
				must(b, err)
				b.StartTimer()
				getAll(b, r)
				b.StopTimer()
				r.Close()
				b.StartTimer()
			}
		})
		b.Run(fmt.Sprintf("live=%d/dead=%d/again", n[0], n[1]), func(b *testing.B) {
			r := tr.registry()
			getAll(b, r)
			for b.Loop() {
				getAll(b, r)
			}
		})
		// What the first call is measured against: plain parallel activations.
		b.Run(fmt.Sprintf("live=%d/nethttp", n[0]), func(b *testing.B) {
			for range b.N {
				var wg sync.WaitGroup
				for i := range n[0] {
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
			}
		})
	}
}

// BenchmarkStream reads a long answer through the client, beside the same bytes
// copied over the same kind of socket.
func BenchmarkStream(b *testing.B) {
	block := bytes.Repeat([]byte("x"), 32<<10)
	serve := func(b *testing.B, head, before, after string) net.Listener {
		l, err := net.Listen("unix", filepath.Join(b.TempDir(), "s.sock"))
		must(b, err)
		b.Cleanup(func() { l.Close() })
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			if head != "" {
				readRequest(bufio.NewReader(c))
				io.WriteString(c, head)
			}
			chunk := []byte(before + string(block) + after)
			for range b.N {
				if _, err := c.Write(chunk); err != nil {
					return
				}
			}
			if head != "" {
				io.WriteString(c, "0\r\n\r\n")
			}
		}()
		return l
	}
	read := func(b *testing.B, r io.Reader) {
		buf := make([]byte, 64<<10)
		n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{r}, buf)
		if err != nil || n != int64(b.N*len(block)) {
			b.Errorf("read %d bytes of %d: %v", n, b.N*len(block), err)
		}
	}
	b.Run("client", func(b *testing.B) {
		l := serve(b, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "8000\r\n", "\r\n")
		c := client(b, "unix://"+l.Addr().String(), plugins.ClientOptions{})
		b.SetBytes(int64(len(block)))
		b.ReportAllocs()
		s, err := c.StreamContext(context.Background(), "LogDriver.ReadLogs", nil)
		must(b, err)
		defer s.Close()
		read(b, s)
	})
	b.Run("copy", func(b *testing.B) {
		l := serve(b, "", "", "")
		c, err := net.Dial("unix", l.Addr().String())
		must(b, err)
		defer c.Close()
		b.SetBytes(int64(len(block)))
		b.ReportAllocs()
		read(b, c)
	})
}
