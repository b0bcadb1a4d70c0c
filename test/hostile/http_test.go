package hostile

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// dial connects to the daemon's socket for as long as the test runs.
func dial(t *testing.T, d *daemontest.Daemon) *net.UnixConn {
	t.Helper()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: d.Socket()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestClients has clients of one kind or the other while another asks as usual.
// Afterwards no connection is left, and nothing that was begun.
func TestClients(t *testing.T) {
	const create = "POST /plugins/create?name=hostile HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-tar\r\n"
	for name, attack := range map[string]func(t *testing.T, d *daemontest.Daemon){
		// Each sends a byte, then nothing.
		"five hundred that never finish a header": func(t *testing.T, d *daemontest.Daemon) {
			for range 500 {
				if _, err := io.WriteString(dial(t, d), "G"); err != nil {
					t.Fatal(err)
				}
			}
		},
		"a hundred that never send the body they told": func(t *testing.T, d *daemontest.Daemon) {
			for range 100 {
				if _, err := io.WriteString(dial(t, d), create+"Content-Length: 1000000\r\n\r\nxx"); err != nil {
					t.Fatal(err)
				}
			}
		},
		"a thousand requests at once": func(t *testing.T, d *daemontest.Daemon) {
			var wg sync.WaitGroup
			for range 1000 {
				c := dial(t, d)
				wg.Go(func() {
					if _, err := io.WriteString(c, "GET /plugins HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
						t.Error(err)
						return
					}
					res, err := http.ReadResponse(bufio.NewReader(c), nil)
					if err != nil {
						t.Error(err)
						return
					}
					defer res.Body.Close()
					if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
						t.Errorf("%s, %v", res.Status, err)
					}
				})
			}
			wg.Wait()
		},
		"a hundred that hang up at different bytes of an upload": func(t *testing.T, d *daemontest.Daemon) {
			upload := create + "Transfer-Encoding: chunked\r\n\r\n"
			for range 4 {
				upload += "1000\r\n" + strings.Repeat("x", 4096) + "\r\n"
			}
			for i := range 100 {
				c := dial(t, d)
				if _, err := io.WriteString(c, upload[:len(upload)*i/100]); err != nil {
					t.Log(err) // it was refused already
				}
				c.Close()
			}
		},
		"a header of megabytes": func(t *testing.T, d *daemontest.Daemon) {
			c := dial(t, d)
			_, _ = io.WriteString(c, "GET /plugins HTTP/1.1\r\nHost: x\r\n") // it may be cut at any moment
			for range 64 {
				if _, err := fmt.Fprintf(c, "X: %s\r\n", strings.Repeat("x", 1<<20)); err != nil {
					return
				}
			}
			t.Error("all of it is read")
		},
		"requests without end on one connection, and no answer read": func(t *testing.T, d *daemontest.Daemon) {
			c := dial(t, d)
			if err := c.SetWriteDeadline(time.Now().Add(2 * time.Second)); err != nil {
				t.Fatal(err)
			}
			for range 100_000 {
				if _, err := io.WriteString(c, "GET /plugins HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
					return // its answers fill the connection
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, c := start(t)
			if _, err := c.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			before := d.Descriptors()
			t.Run("attack", func(t *testing.T) {
				attack(t, d)
				if _, err := c.List(t.Context(), outlet.ListFilter{}); err != nil {
					t.Errorf("another client gets %v", err)
				}
				if peak := d.PeakRSS(); peak > maxResident {
					t.Errorf("the daemon took %d MiB", peak>>20)
				}
			})
			testutil.Eventually(t, time.Minute, func() error {
				if now := d.Descriptors(); now > before+2 {
					return fmt.Errorf("%d descriptors are open, %d were", now, before)
				}
				return nil
			})
		})
	}
}
