package plugins_test

import (
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
				for range b.N {
					next <- struct{}{}
				}
				close(next)
				wg.Wait()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "calls/s")
			})
		}
	}
}
