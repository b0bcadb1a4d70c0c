package pluginlog

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/outletd/outlet"
)

// What a plugin printed while nobody looked, picked up at once.
func BenchmarkPickUp(b *testing.B) {
	for _, length := range []int{20, 120, 2000} {
		b.Run(fmt.Sprintf("%d-byte-lines", length), func(b *testing.B) {
			l := open(b, logDir(b), Options{Rate: Rate{Lines: -1, Bytes: -1, Burst: time.Second}})
			chunk := strings.Repeat(strings.Repeat("b", length-1)+"\n", 8<<20/length)
			b.SetBytes(int64(len(chunk)))
			for b.Loop() {
				stdout, stderr, err := l.Begin()
				if err != nil {
					b.Fatal(err)
				}
				write(b, stdout, chunk)
				if err := l.Drain(b.Context()); err != nil {
					b.Fatal(err)
				}
				_, _ = stdout.Close(), stderr.Close()
			}
		})
	}
}

// From a line being printed until a reader that follows has it.
func BenchmarkFollowLatency(b *testing.B) {
	l := open(b, logDir(b), Options{})
	stdout, stderr, err := l.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer stderr.Close()
	defer stdout.Close()
	got := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- l.Read(b.Context(), outlet.LogOptions{Tail: -1, Follow: true}, func(outlet.LogEntry) error {
			got <- struct{}{}
			return nil
		})
	}()
	var total time.Duration
	n := 0
	for b.Loop() {
		<-time.After(2 * gap) // the plugin was silent
		start := time.Now()
		write(b, stdout, "line\n")
		<-got
		total += time.Since(start)
		n++
	}
	b.ReportMetric(float64(total.Microseconds())/float64(n), "µs/line")
	if err := l.Close(); err != nil {
		b.Fatal(err)
	}
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

// Begin and Drain of a plugin that prints nothing: what the log adds to a start.
func BenchmarkBeginDrain(b *testing.B) {
	l := open(b, logDir(b), Options{})
	for b.Loop() {
		stdout, stderr, err := l.Begin()
		if err != nil {
			b.Fatal(err)
		}
		if err := l.Drain(b.Context()); err != nil {
			b.Fatal(err)
		}
		_, _ = stdout.Close(), stderr.Close()
	}
}

// The last lines of a log of 30 MiB.
func BenchmarkTail(b *testing.B) {
	l := open(b, logDir(b), Options{Rate: Rate{Lines: -1, Bytes: -1, Burst: time.Second}})
	stdout, stderr, err := l.Begin()
	if err != nil {
		b.Fatal(err)
	}
	defer stderr.Close()
	defer stdout.Close()
	for range 4 {
		write(b, stdout, strings.Repeat(strings.Repeat("t", 99)+"\n", 80_000))
		_ = read(b, l, outlet.LogOptions{Tail: 1})
	}
	for _, n := range []int{100, -1} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if err := l.Read(b.Context(), outlet.LogOptions{Tail: n}, func(outlet.LogEntry) error { return nil }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The memory of 200 logs that are followed and idle.
func BenchmarkIdleMemory(b *testing.B) {
	p := newPicker(b)
	dir := b.TempDir()
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		var logs []*Log
		for i := range 200 {
			l, err := Open(Options{Dir: fmt.Sprintf("%s/%d", dir, i), Picker: p})
			if err != nil {
				b.Fatal(err)
			}
			stdout, stderr, err := l.Begin()
			if err != nil {
				b.Fatal(err)
			}
			write(b, stdout, strings.Repeat("a line\n", 20))
			_, _ = stdout.Close(), stderr.Close()
			l.wake()
			logs = append(logs, l)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		for _, l := range logs {
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			if err := os.RemoveAll(l.opts.Dir); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/200, "B/log")
}
