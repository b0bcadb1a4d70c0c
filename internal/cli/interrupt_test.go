package cli

import (
	"bytes"
	"context"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

// lockedBuffer is written by a command while a test looks.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startDaemon(t *testing.T) *fakeDaemon {
	t.Helper()
	d, err := startFakeDaemon()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	return d
}

func TestAnInterruptedCommandExitsWith130AndSaysNothing(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		sees string // a request after which the user loses patience
		out  string // what was printed by then
	}{
		"following a log": {[]string{"logs", "-f", "sample/v10"}, "follow=1", "begins and ends\n"},
		"events":          {[]string{"events"}, "/events", "enable"},
		"exec":            {[]string{"exec", "sample/v10", "wait"}, "/exec", ""},
		"exec with input": {[]string{"exec", "-i", "sample/v10", "wait"}, "/exec", ""},
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t)
			ctx, cancel := context.WithCancel(t.Context())
			input, w := io.Pipe()
			defer w.Close() // always nil
			out := newWatcher(tt.out)
			var errs lockedBuffer
			code := make(chan int, 1)
			go func() {
				code <- Run(ctx, append([]string{"-H", d.socket}, tt.args...), Env{In: input, Out: out, Err: &errs, Getenv: noEnv})
			}()
			if !d.waitRequest(tt.sees, time.Minute) {
				t.Fatal("the daemon was not asked")
			}
			<-out.seen
			cancel()
			if got := <-code; got != 130 {
				t.Errorf("exit code %d; %s", got, errs.String())
			}
			if text := errs.String(); strings.Contains(text, "cancel") {
				t.Errorf("it said %q", text)
			}
		})
	}
}

func noEnv(string) string { return "" }

func TestAnInterruptedPromptExitsWith130(t *testing.T) {
	d := startDaemon(t)
	ctx, cancel := context.WithCancel(t.Context())
	input, w := io.Pipe()
	defer w.Close() // always nil
	errs := newWatcher("[y/N]")
	code := make(chan int, 1)
	go func() {
		code <- Run(ctx, []string{"-H", d.socket, "volume", "prune", "-d", "sample/v10"}, Env{In: input, Out: io.Discard, Err: errs, Getenv: noEnv})
	}()
	<-errs.seen
	cancel()
	if got := <-code; got != 130 {
		t.Errorf("exit code %d", got)
	}
	if len(d.volumes) != 5 {
		t.Errorf("%d volumes left", len(d.volumes))
	}
}

// watcher says when a text was written.
type watcher struct {
	text string
	seen chan struct{}

	mu  sync.Mutex
	buf bytes.Buffer
	hit bool
}

func newWatcher(text string) *watcher {
	w := &watcher{text: text, seen: make(chan struct{})}
	w.Write(nil) // sees the empty text
	return w
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.buf.Write(p)
	if !w.hit && strings.Contains(w.buf.String(), w.text) {
		w.hit = true
		close(w.seen)
	}
	return len(p), nil
}
