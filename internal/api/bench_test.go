package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// The benchmarks measure a route against a plain net/http handler that writes
// the same bytes: 64 clients, each with a connection of its own, 200 plugins.
// Rounds of both alternate, so that both meet the same machine; "×plain" is
// their ratio in throughput.
const (
	benchClients  = 64
	benchPlugins  = 200
	benchRequests = 10 // of each client in a round
)

func BenchmarkList(b *testing.B) { benchRoute(b, "/v1.51/plugins", false) }

// BenchmarkListChanging changes something before every round.
func BenchmarkListChanging(b *testing.B) { benchRoute(b, "/v1.51/plugins", true) }

func BenchmarkInspect(b *testing.B) { benchRoute(b, "/v1.51/plugins/many/7/json", false) }

func benchRoute(b *testing.B, target string, changing bool) {
	g := newRig(b, func(c *Config) { c.Logger = nil })
	for i := range benchPlugins {
		p := samplePlugin(fmt.Sprintf("many/%d:latest", i), 100+i)
		g.plugins.plugins[p.Name] = &p
	}
	body := []byte(g.do("GET", target, "", "").body)
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

	ours, theirs := newBenchClients(b, g.socket, target), newBenchClients(b, l.Addr().String(), target)
	var our, their time.Duration
	b.SetBytes(int64(2 * benchClients * benchRequests * len(body)))
	b.ResetTimer()
	for range b.N {
		if changing {
			g.plugins.revision.Add(1)
		}
		our += ours.round()
		their += theirs.round()
	}
	b.StopTimer()
	b.ReportMetric(their.Seconds()/our.Seconds(), "×plain")
	b.ReportMetric(float64(our.Microseconds())/float64(b.N*benchClients*benchRequests), "µs/request")
	ours.close()
	theirs.close()
	_ = plain.Shutdown(context.Background())
	<-done
}

type benchConns struct {
	b       *testing.B
	request string
	conns   []net.Conn
	readers []*bufio.Reader
}

func newBenchClients(b *testing.B, socket, target string) *benchConns {
	c := &benchConns{b: b, request: "GET " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"}
	for range benchClients {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			b.Fatal(err)
		}
		c.conns = append(c.conns, conn)
		c.readers = append(c.readers, bufio.NewReaderSize(conn, 64<<10))
	}
	return c
}

// round lets every client ask, one request after the other.
func (c *benchConns) round() time.Duration {
	start := time.Now()
	var wg sync.WaitGroup
	for i := range c.conns {
		wg.Go(func() {
			for range benchRequests {
				if err := c.ask(i); err != nil {
					c.b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(start)
}

func (c *benchConns) ask(i int) error {
	if _, err := io.WriteString(c.conns[i], c.request); err != nil {
		return err
	}
	res, err := http.ReadResponse(c.readers[i], nil)
	if err != nil {
		return err
	}
	defer res.Body.Close() // read to its end
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", res.StatusCode)
	}
	_, err = io.Copy(io.Discard, res.Body)
	return err
}

func (c *benchConns) close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}
