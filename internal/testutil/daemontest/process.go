package daemontest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// What is known of the daemon's process.

// RSS is the memory of the daemon that is resident now, in bytes.
func (d *Daemon) RSS() int64 { d.t.Helper(); return d.status("VmRSS") << 10 }

// PeakRSS is the most memory that was resident since the daemon started or
// [Daemon.ResetPeak], in bytes.
func (d *Daemon) PeakRSS() int64 { d.t.Helper(); return d.status("VmHWM") << 10 }

// ResetPeak makes [Daemon.PeakRSS] start again from what is resident now.
func (d *Daemon) ResetPeak() {
	d.t.Helper()
	if err := os.WriteFile(d.proc("clear_refs"), []byte("5"), 0); err != nil {
		d.t.Fatal(err)
	}
}

// Threads is how many threads the daemon has.
func (d *Daemon) Threads() int64 { d.t.Helper(); return d.status("Threads") }

// Descriptors is how many files the daemon has open.
func (d *Daemon) Descriptors() int {
	d.t.Helper()
	entries, err := os.ReadDir(d.proc("fd"))
	if err != nil {
		d.t.Fatal(err)
	}
	return len(entries)
}

// Goroutines is how many goroutines the daemon has, by its own account.
func (d *Daemon) Goroutines() int {
	d.t.Helper()
	h := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Socket())
		},
	}}
	resp, err := h.Get("http://daemon/info")
	if err != nil {
		d.t.Fatal(err)
	}
	defer resp.Body.Close()
	var info struct{ NGoroutines int }
	if err := json.NewDecoder(resp.Body).Decode(&info); err != nil || info.NGoroutines == 0 {
		d.t.Fatalf("the daemon does not tell its goroutines: %v", err)
	}
	return info.NGoroutines
}

// CPU is the processor time that the daemon has used, in user and kernel mode.
// Children, such as runc, are counted once they have ended.
func (d *Daemon) CPU() time.Duration {
	d.t.Helper()
	b, err := os.ReadFile(d.proc("stat"))
	if err != nil {
		d.t.Fatal(err)
	}
	// Behind the name, which may hold anything: utime, stime, cutime and
	// cstime are the 14th to 17th fields of all.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	var ticks int64
	for _, f := range fields[11:15] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			d.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100 // USER_HZ
}

func (d *Daemon) proc(file string) string { return fmt.Sprintf("/proc/%d/%s", d.PID(), file) }

func (d *Daemon) status(name string) int64 {
	d.t.Helper()
	b, err := os.ReadFile(d.proc("status"))
	if err != nil {
		d.t.Fatal(err)
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				d.t.Fatal(err)
			}
			return n
		}
	}
	d.t.Fatalf("the kernel does not tell %s", name)
	return 0
}
