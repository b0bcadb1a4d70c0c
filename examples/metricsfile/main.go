// Metricsfile is a metrics plugin: while the host has metrics it reads them every
// few seconds and writes them to a file, for example for the textfile collector
// of a node exporter. It opens no port and keeps no history.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/outletd/outlet/sdk"
)

// maxMetrics bounds what is read of the host, in bytes.
const maxMetrics = 8 << 20

func main() {
	file := flag.String("file", "/metrics/docker.prom", "`file` to write")
	socket := flag.String("socket", sdk.MetricsSocket, "`path` of the host's metrics socket")
	every := flag.Duration("every", 15*time.Second, "time between two readings")
	addr := flag.String("addr", "", "serve at this `address` instead of the usual socket")
	flag.Parse()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	c := newCollector(*socket, *file, *every, log)
	err := sdk.Run(context.Background(), sdk.Plugin{Metrics: c}, sdk.Options{
		Config:         sdk.Config{Name: "metricsfile", Address: *addr},
		HandlerOptions: sdk.HandlerOptions{Logger: log},
	})
	c.stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "metricsfile:", err)
		os.Exit(1)
	}
}

// collector copies metrics while it is told to.
type collector struct {
	file  string
	every time.Duration
	log   *slog.Logger
	host  *http.Client

	mu  sync.Mutex
	end context.CancelFunc // nil if nothing is copied
	wg  sync.WaitGroup
}

func newCollector(socket, file string, every time.Duration, log *slog.Logger) *collector {
	return &collector{file: file, every: every, log: log, host: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, // the socket is another one after the host was started again
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}}}
}

// StartMetrics begins to copy. That it is called again without a stop means that
// the host was started again.
func (c *collector) StartMetrics(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		return nil
	}
	run, end := context.WithCancel(context.WithoutCancel(ctx))
	c.end = end
	c.wg.Go(func() { c.run(run) })
	return nil
}

// StopMetrics ends the copying.
func (c *collector) StopMetrics(context.Context) error {
	c.stop()
	return nil
}

func (c *collector) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != nil {
		c.end()
		c.end = nil
	}
	c.wg.Wait()
}

func (c *collector) run(ctx context.Context) {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		if err := c.copy(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn("metrics were not copied", "err", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// copy reads the metrics once. Whoever reads the file sees old or new ones,
// never half of them.
func (c *collector) copy(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://host/metrics", nil)
	if err != nil {
		return err
	}
	resp, err := c.host.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the host answers %s", resp.Status)
	}
	f, err := os.CreateTemp(filepath.Dir(c.file), ".new-*")
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(resp.Body, maxMetrics+1))
	if err == nil && n > maxMetrics {
		err = fmt.Errorf("the host has more than %d bytes of metrics", maxMetrics)
	}
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(f.Name(), c.file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
