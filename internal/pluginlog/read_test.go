package pluginlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/outletd/outlet"
)

func TestSinceAndUntil(t *testing.T) {
	l := open(t, logDir(t), Options{})
	var times []time.Time
	for i := range 4 {
		if err := l.Note(fmt.Sprint(i)); err != nil {
			t.Fatal(err)
		}
		e := all(t, l)
		times = append(times, e[len(e)-1].Time)
	}
	diff(t, words(read(t, l, outlet.LogOptions{Tail: -1, Since: times[1]})), []string{"n 1", "n 2", "n 3"})
	diff(t, words(read(t, l, outlet.LogOptions{Tail: -1, Until: times[2]})), []string{"n 0", "n 1", "n 2"})
	diff(t, words(read(t, l, outlet.LogOptions{Tail: 1, Since: times[1], Until: times[2]})), []string{"n 2"})
}

func TestFollowEnds(t *testing.T) {
	l := open(t, logDir(t), Options{})
	if err := l.Note("a"); err != nil {
		t.Fatal(err)
	}
	stop := errors.New("stop")
	follow := func(ctx context.Context, o outlet.LogOptions, err error) error {
		o.Tail, o.Follow = -1, true
		return l.Read(ctx, o, func(outlet.LogEntry) error { return err })
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := follow(ctx, outlet.LogOptions{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with the context: %v", err)
	}
	if err := follow(t.Context(), outlet.LogOptions{Until: time.Now().Add(20 * time.Millisecond)}, nil); err != nil {
		t.Errorf("at the time: %v", err)
	}
	if err := follow(t.Context(), outlet.LogOptions{}, stop); !errors.Is(err, stop) {
		t.Errorf("with the reader: %v", err)
	}
	done := make(chan error, 1)
	go func() { done <- follow(t.Context(), outlet.LogOptions{}, nil) }()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("with the log: %v", err)
	}
}

func TestFollowGoesAcrossStartsAndRotation(t *testing.T) {
	l := open(t, logDir(t), Options{MaxSize: 64 << 10, MaxFiles: 50})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const starts, lines = 5, 1000
	got := make(chan string, starts*lines)
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = l.Read(ctx, outlet.LogOptions{Tail: -1, Follow: true}, func(e outlet.LogEntry) error { got <- e.Line; return nil })
	})
	for s := range starts {
		stdout, _ := begin(t, l)
		for i := range lines {
			write(t, stdout, fmt.Sprintf("%d/%d %s\n", s, i, strings.Repeat("f", 60)))
		}
		if err := l.Drain(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for s := range starts {
		for i := range lines {
			select {
			case line := <-got:
				if !strings.HasPrefix(line, fmt.Sprintf("%d/%d ", s, i)) {
					t.Fatalf("%d/%d is %q", s, i, line)
				}
			case <-ctx.Done():
				t.Fatalf("%d/%d did not come", s, i)
			}
		}
	}
	cancel()
	wg.Wait()
}

func TestASlowReaderIsToldWhatItMissed(t *testing.T) {
	l := open(t, logDir(t), Options{MaxSize: 64 << 10, MaxFiles: 2})
	if err := l.Note("first"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reading, goOn := make(chan struct{}), make(chan struct{})
	done := make(chan []string, 1)
	go func() {
		var got []string
		_ = l.Read(ctx, outlet.LogOptions{Tail: -1, Follow: true}, func(e outlet.LogEntry) error {
			if len(got) == 0 {
				close(reading)
				<-goOn
			}
			got = append(got, e.Stream+" "+e.Line)
			if strings.HasPrefix(e.Line, "4999 ") {
				return io.EOF
			}
			return nil
		})
		done <- got
	}()
	<-reading
	for i := range 5000 { // nobody waits for the reader
		if err := l.Note(fmt.Sprintf("%d %s", i, strings.Repeat("s", 80))); err != nil {
			t.Fatal(err)
		}
	}
	close(goOn)
	got := <-done
	if n := slices.IndexFunc(got, func(s string) bool { return strings.HasPrefix(s, "outlet lines are missing here") }); n < 1 {
		t.Errorf("it was not told: %d entries", len(got))
	}
	if len(got) == 0 || !strings.HasPrefix(got[len(got)-1], "outlet 4999 ") {
		t.Errorf("it did not reach the end")
	}
}
