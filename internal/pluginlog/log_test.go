package pluginlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
)

func diff(t testing.TB, got, want []string) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("entries (-want +got):\n%s", d)
	}
}

func TestLinesAreKeptWithStreamAndTime(t *testing.T) {
	l := open(t, logDir(t), Options{})
	stdout, stderr := begin(t, l)
	before := time.Now()
	write(t, stdout, "one\ntwo\n")
	write(t, stderr, "three\r\nunfini")
	if err := l.Note("said\ntwice"); err != nil {
		t.Fatal(err)
	}
	entries := all(t, l)
	diff(t, words(entries), []string{"o one", "o two", "e three\r", "n said", "n twice"})
	for _, e := range entries {
		if e.Time.Before(before) || e.Time.After(time.Now()) {
			t.Errorf("%q was picked up at %v", e.Line, e.Time)
		}
	}
	write(t, stderr, "shed")
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	diff(t, words(all(t, l))[5:], []string{"e unfinished"})
	diff(t, words(l.Last(2)), []string{"e three\r", "e unfinished"})
	if starts, err := rawStarts(l.opts.Dir); err != nil || len(starts) != 0 {
		t.Errorf("raw files are left: %v, %v", starts, err)
	}
}

func TestAChildPrintsThroughTheFiles(t *testing.T) {
	l := open(t, logDir(t), Options{})
	stdout, stderr, err := l.Begin()
	if err != nil {
		t.Fatal(err)
	}
	cmd := role("writer", "2000", "100")
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = stdout.Close(), stderr.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	seen := make(map[string]bool)
	err = l.Read(ctx, outlet.LogOptions{Tail: -1, Follow: true}, func(e outlet.LogEntry) error {
		if seen[e.Line] {
			return fmt.Errorf("%q came twice", e.Line)
		}
		seen[e.Line] = true
		if len(seen) == 2000 {
			return io.EOF
		}
		return nil
	})
	if !errors.Is(err, io.EOF) {
		t.Fatalf("read: %v after %d lines", err, len(seen))
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range 2000 {
		if !seen[numbered(i)] {
			t.Fatalf("line %d is missing", i)
		}
	}
}

func TestStartsFollowEachOther(t *testing.T) {
	dir := logDir(t)
	l := open(t, dir, Options{})
	out1, _ := begin(t, l)
	write(t, out1, "first\nend of first")
	out2, _ := begin(t, l) // without a drain
	write(t, out2, "second\n")
	diff(t, words(all(t, l)), []string{"o first", "o end of first", "o second"})
	diff(t, words(l.Last(10)), []string{"o second"})
	if starts, _ := rawStarts(dir); !slices.Equal(starts, []uint64{2}) {
		t.Errorf("raw files are there of starts %v", starts)
	}
}

func TestResumeGoesOnWhereItWas(t *testing.T) {
	dir := logDir(t)
	p := newPicker(t)
	l := open(t, dir, Options{Picker: p})
	stdout, stderr := begin(t, l)
	write(t, stdout, "a\nb\npart")
	write(t, stderr, "c\n")
	_ = all(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	write(t, stdout, "ial\nd\n")
	write(t, stderr, "e\n")
	l = open(t, dir, Options{Picker: p})
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	diff(t, words(all(t, l)), []string{"o a", "o b", "e c", "o partial", "o d", "e e"})
	diff(t, words(l.Last(5)), []string{"o b", "e c", "o partial", "o d", "e e"})
	if err := l.Resume(); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("a second resume: %v", err)
	}
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := l.Resume(); !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("resume of nothing: %v", err)
	}
	out, _ := begin(t, l)
	write(t, out, "next\n")
	diff(t, words(all(t, l))[6:], []string{"o next"})
}

func TestOddOutput(t *testing.T) {
	long := strings.Repeat("äb", 500) // 1500 bytes
	for name, c := range map[string]struct {
		print string
		want  []string
	}{
		"empty lines":             {"\n\na\n\n", []string{"o ", "o ", "o a", "o "}},
		"bytes that are no text":  {"a\x00b\xff\xfe\nc\n", []string{"o a\x00b\xff\xfe", "o c"}},
		"what looks like records": {"00000000 o . 1 - x\n0 0 0\n", []string{"o 00000000 o . 1 - x", "o 0 0 0"}},
		"a line of the limit":     {strings.Repeat("x", 1024) + "\ny\n", []string{"o " + strings.Repeat("x", 1024), "o y"}},
		"a longer line":           {strings.Repeat("x", 1025) + "\ny\n", []string{"o " + strings.Repeat("x", 1024) + "+", "o x", "o y"}},
		"cut between characters":  {long + "\n", []string{"o " + long[:1023] + "+", "o " + long[1023:]}},
		"a line without end":      {strings.Repeat("z", 3000), []string{"o " + strings.Repeat("z", 1024) + "+", "o " + strings.Repeat("z", 1024) + "+"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, logDir(t), Options{MaxLine: 1024})
			stdout, _ := begin(t, l)
			write(t, stdout, c.print)
			diff(t, words(all(t, l)), c.want)
		})
	}
}

func TestLongNotesAreCut(t *testing.T) {
	l := open(t, logDir(t), Options{MaxLine: 256})
	if err := l.Note(strings.Repeat("n", 600)); err != nil {
		t.Fatal(err)
	}
	diff(t, words(all(t, l)), []string{"n " + strings.Repeat("n", 256) + "+", "n " + strings.Repeat("n", 256) + "+", "n " + strings.Repeat("n", 88)})
}

func TestAPluginMayTruncateItsOutput(t *testing.T) {
	l := open(t, logDir(t), Options{})
	stdout, _ := begin(t, l)
	write(t, stdout, "a long line before\n")
	diff(t, words(all(t, l)), []string{"o a long line before"})
	again, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", stdout.Fd()), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	write(t, again, "new\n")
	diff(t, words(all(t, l)), []string{"o a long line before", "o new"})
}

func TestOptionsAreChecked(t *testing.T) {
	p := newPicker(t)
	for name, o := range map[string]Options{
		"no picker":         {Dir: "/x"},
		"a relative path":   {Dir: "x", Picker: p},
		"files too small":   {Dir: "/x", Picker: p, MaxSize: 100},
		"no files":          {Dir: "/x", Picker: p, MaxFiles: -1},
		"lines too long":    {Dir: "/x", Picker: p, MaxLine: 1 << 20},
		"half a rate":       {Dir: "/x", Picker: p, Rate: Rate{Lines: 1}},
		"less than a line":  {Dir: "/x", Picker: p, Rate: Rate{Lines: 1, Bytes: 1, Burst: time.Second}},
		"less than a burst": {Dir: "/x", Picker: p, Rate: Rate{Lines: 1, Bytes: -1}},
	} {
		if _, err := Open(o); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAClosedLogRefuses(t *testing.T) {
	l := open(t, logDir(t), Options{})
	if err := l.Note("kept"); err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	_, _, err := l.Begin()
	for what, err := range map[string]error{"begin": err, "resume": l.Resume(), "note": l.Note("x"), "drain": l.Drain(t.Context())} {
		if !errors.Is(err, errClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	diff(t, words(all(t, l)), []string{"n kept"})
	if err := Remove(l.opts.Dir); err != nil {
		t.Fatal(err)
	}
	if err := Remove("relative"); err == nil {
		t.Error("a relative path was removed")
	}
}

func TestWithoutWatchesOutputIsPolled(t *testing.T) {
	p := newPicker(t)
	p.mu.Lock()
	p.conn = nil
	p.mu.Unlock()
	l := open(t, logDir(t), Options{Picker: p})
	stdout, _ := begin(t, l)
	got := make(chan string, 2)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	write(t, stdout, "there\n")
	go func() {
		_ = l.Read(ctx, outlet.LogOptions{Tail: -1, Follow: true}, func(e outlet.LogEntry) error { got <- e.Line; return nil })
	}()
	for _, want := range []string{"there", "polled"} {
		select {
		case line := <-got:
			if line != want {
				t.Errorf("got %q, want %q", line, want)
			}
		case <-ctx.Done():
			t.Errorf("%q did not come", want)
		}
		if want == "there" { // the reader follows from here on
			write(t, stdout, "polled\n")
		}
	}
}

func TestAllAtOnce(t *testing.T) {
	p := newPicker(t)
	dir := t.TempDir()
	var wg sync.WaitGroup
	for i := range 4 {
		l := open(t, fmt.Sprintf("%s/%d", dir, i), Options{Picker: p, MaxSize: 64 << 10})
		ctx, cancel := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() {
				_ = l.Read(ctx, outlet.LogOptions{Tail: 5, Follow: true}, func(outlet.LogEntry) error { return nil })
			})
		}
		wg.Go(func() {
			defer readers.Wait()
			defer cancel()
			for s := range 20 {
				stdout, stderr, err := l.Begin()
				if err != nil {
					t.Error(err)
					return
				}
				var writers sync.WaitGroup
				for _, f := range []*os.File{stdout, stderr} {
					writers.Go(func() {
						for j := range 50 {
							_, _ = fmt.Fprintf(f, "%d %d %d\n", i, s, j)
						}
						_ = f.Close()
					})
				}
				_ = l.Note("a note")
				writers.Wait()
				if err := l.Drain(ctx); err != nil {
					t.Error(err)
				}
				if got := l.Last(1); len(got) != 1 || !strings.HasSuffix(got[0].Line, " 49") {
					t.Errorf("the last line is %v", got)
				}
			}
			if n := len(words(all(t, l))); n != 20*101 {
				t.Errorf("%d entries", n)
			}
		})
	}
	wg.Wait()
}

// The number of the last start is found however much was noted since, and
// whatever the size of the windows that are looked at for it.
func TestTheLastStartIsFoundBehindNotes(t *testing.T) {
	for _, lines := range []int{0, 3, 300, 20000} {
		dir := logDir(t)
		l := open(t, dir, Options{})
		for range 3 {
			out, _ := begin(t, l)
			write(t, out, "line\n")
		}
		if err := l.Drain(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range lines {
			if err := l.Note("a note that is as long as a line of a log is, more or less"); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, dir, Options{})
		if l.last != 3 {
			t.Errorf("after %d notes the last start is number %d", lines, l.last)
		}
	}
}
