package main

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/sdk"
	"github.com/outletd/outlet/sdk/sdktest"
)

func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }

func TestCopiesWhileItIsToldTo(t *testing.T) {
	dir := testutil.TempDir(t)
	socket, file := filepath.Join(dir, "metrics.sock"), filepath.Join(dir, "docker.prom")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var reads atomic.Int64
	host := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		reads.Add(1)
		if _, err := w.Write([]byte("engine_daemon_up 1\n")); err != nil || r.URL.Path != "/metrics" {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
	}))
	host.Listener.Close()
	host.Listener = l
	host.Start()
	defer host.Close()
	c := newCollector(socket, file, time.Millisecond, slog.New(slog.DiscardHandler))
	addr := sdktest.Serve(t, "metricsfile", sdk.Plugin{Metrics: c})
	sdktest.Run(t, sdktest.Options{Addr: addr, Implements: []string{"MetricsCollector"}})
	if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := c.StartMetrics(t.Context()); err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, time.Minute, func() error {
		b, err := os.ReadFile(file)
		if err == nil && string(b) != "engine_daemon_up 1\n" {
			err = errors.New("the file holds " + string(b))
		}
		return err
	})
	if err := c.StopMetrics(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := reads.Load()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".new") {
			t.Errorf("%s is left", e.Name())
		}
	}
	if reads.Load() != before {
		t.Error("it reads on after the stop")
	}
}
