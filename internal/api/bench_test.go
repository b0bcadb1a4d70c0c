package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
)

// The pairs below measure a route against a plain net/http handler that writes
// the same bytes: 64 clients, each with a connection of its own, 200 plugins.
const (
	benchClients = 64
	benchPlugins = 200
)

func BenchmarkList(b *testing.B)         { benchRoute(b, "/v1.51/plugins") }
func BenchmarkListPlain(b *testing.B)    { benchPlain(b, "/v1.51/plugins") }
func BenchmarkInspect(b *testing.B)      { benchRoute(b, "/v1.51/plugins/many/7/json") }
func BenchmarkInspectPlain(b *testing.B) { benchPlain(b, "/v1.51/plugins/many/7/json") }

// BenchmarkListChanging is BenchmarkList while every hundredth request follows
// a change.
func BenchmarkListChanging(b *testing.B) {
	g := benchRig(b)
	var n atomic.Int64
	benchClient(b, g.socket, "/v1.51/plugins", func() {
		if n.Add(1)%100 == 0 {
			g.plugins.revision.Add(1)
		}
	})
}

func benchRig(b *testing.B) *rig {
	g := newRig(b, func(c *Config) { c.Logger = nil })
	for i := range benchPlugins {
		p := samplePlugin(fmt.Sprintf("many/%d:latest", i), 100+i)
		g.plugins.plugins[p.Name] = &p
	}
	return g
}

func benchRoute(b *testing.B, target string) {
	g := benchRig(b)
	benchClient(b, g.socket, target, nil)
}

func benchPlain(b *testing.B, target string) {
	g := benchRig(b)
	a := g.do("GET", target, "", "")
	body := []byte(a.body)
	l, err := net.Listen("unix", filepath.Join(filepath.Dir(g.socket), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	plain := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = plain.Serve(l) }()
	benchClient(b, l.Addr().String(), target, nil)
	_ = plain.Shutdown(context.Background())
	<-done
}

// benchClient asks for target over as many connections as there are clients.
func benchClient(b *testing.B, socket, target string, before func()) {
	b.Helper()
	request := "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"
	b.SetParallelism((benchClients + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("unix", socket)
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close() //nolint:errcheck // read to its end
		r := bufio.NewReaderSize(c, 64<<10)
		for pb.Next() {
			if before != nil {
				before()
			}
			if _, err := io.WriteString(c, request); err != nil {
				b.Error(err)
				return
			}
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != http.StatusOK {
				b.Errorf("%v, %v", res, err)
				return
			}
			if _, err := io.Copy(io.Discard, res.Body); err != nil {
				b.Error(err)
				return
			}
			_ = res.Body.Close()
		}
	})
}
