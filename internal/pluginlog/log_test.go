package pluginlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
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
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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

func TestRotationKeepsTheBounds(t *testing.T) {
	dir := logDir(t)
	l := open(t, dir, Options{MaxSize: 64 << 10, MaxFiles: 3})
	stdout, _ := begin(t, l)
	line := strings.Repeat("r", 100)
	for i := range 5000 {
		write(t, stdout, fmt.Sprintf("%05d %s\n", i, line))
	}
	entries := words(all(t, l))
	if n := len(entries); n < 700 || n > 5000 || !strings.HasPrefix(entries[n-1], "o 04999 ") {
		t.Fatalf("%d entries, the last is %q", n, entries[n-1])
	}
	for i, e := range entries {
		if want := fmt.Sprintf("o %05d %s", 5000-len(entries)+i, line); e != want {
			t.Fatalf("entry %d is %q, want %q", i, e, want)
		}
	}
	numbers, err := fileNumbers(dir)
	if err != nil || len(numbers) != 3 {
		t.Fatalf("files %v, %v", numbers, err)
	}
	for _, n := range numbers {
		if info, err := os.Stat(filepath.Join(dir, fileName(n))); err != nil || info.Size() > 64<<10 {
			t.Errorf("file %d: %v, %v", n, info, err)
		}
	}
	// Across the border of two files, and by number of lines.
	for _, tail := range []int{0, 1, 10, 600, 100_000} {
		got := words(read(t, l, outlet.LogOptions{Tail: tail}))
		diff(t, got, append([]string(nil), entries[max(0, len(entries)-tail):]...))
	}
}

func TestPickedOutputTakesNoDisk(t *testing.T) {
	dir := logDir(t)
	l := open(t, dir, Options{Rate: Rate{Lines: -1, Bytes: -1, Burst: time.Second}})
	stdout, _ := begin(t, l)
	chunk := strings.Repeat(strings.Repeat("d", 99)+"\n", 10_000)
	for range 16 {
		write(t, stdout, chunk)
	}
	_ = read(t, l, outlet.LogOptions{Tail: 1})
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, rawName(1, kindStdout)), &st); err != nil {
		t.Fatal(err)
	}
	if st.Size != 16_000_000 || st.Blocks*512 > 3<<20 {
		t.Errorf("of %d bytes printed %d are on the disk", st.Size, st.Blocks*512)
	}
}

func TestFloodsAreBoundedAndTold(t *testing.T) {
	l := open(t, logDir(t), Options{Rate: Rate{Lines: 1000, Bytes: -1, Burst: time.Second}})
	stdout, _ := begin(t, l)
	const lines = 50_000
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "%06d\n", i)
	}
	write(t, stdout, b.String())
	var entries []string
	testutil.Eventually(t, 10*time.Second, func() error {
		entries = words(all(t, l))
		if !slices.ContainsFunc(entries, func(e string) bool { return strings.HasPrefix(e, "n dropped ") }) {
			return errors.New("nobody says that lines were dropped")
		}
		return nil
	})
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries = words(all(t, l))
	if n := len(entries); entries[0] != "o 000000" || entries[n-1] != fmt.Sprintf("o %06d", lines-1) || n > 8000 {
		t.Errorf("%d entries, from %q to %q", n, entries[0], entries[n-1])
	}
	var dropped, kept int
	for _, e := range entries {
		var n int
		if _, err := fmt.Sscanf(e, "n dropped %d bytes of stdout: the plugin prints more than is kept (1000 lines a second)", &n); err == nil {
			dropped += n
		} else {
			kept += len(e) - 2 + 1
		}
	}
	if dropped+kept != 7*lines {
		t.Errorf("%d bytes were dropped and %d kept, of %d", dropped, kept, 7*lines)
	}
	diff(t, words(l.Last(1)), []string{fmt.Sprintf("o %06d", lines-1)})
}

func TestABacklogBeyondTheLogIsSkippedAndTold(t *testing.T) {
	dir := logDir(t)
	p := newPicker(t)
	l := open(t, dir, Options{Picker: p, MaxSize: 64 << 10, MaxFiles: 2})
	stdout, _ := begin(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	line := strings.Repeat("b", 999) + "\n"
	write(t, stdout, strings.Repeat(line, 1000))
	l = open(t, dir, Options{Picker: p, MaxSize: 64 << 10, MaxFiles: 2})
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries := words(all(t, l))
	var n, lines int
	if _, err := fmt.Sscanf(entries[0], "n dropped %d bytes of stdout: more than the log can hold", &n); err != nil {
		t.Fatalf("the first entry is %q", entries[0])
	}
	for _, e := range entries[1:] {
		if e != "o "+strings.TrimSuffix(line, "\n") {
			t.Fatalf("entry %q", e)
		}
		lines++
	}
	if n+lines*1000 != 1_000_000 {
		t.Errorf("%d bytes were dropped, %d lines kept", n, lines)
	}
}

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
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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

func TestDamagedFilesAreReadAround(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(b []byte) []byte
		want   []string // nil: only that it goes on
	}{
		"the last record is torn":        {func(b []byte) []byte { return b[:len(b)-2] }, []string{"n a", "n b", "n d"}},
		"a record is changed":            {func(b []byte) []byte { return bytes.Replace(b, []byte(" b\n"), []byte(" B\n"), 1) }, []string{"n a", "n c", "n d"}},
		"bytes between records":          {func(b []byte) []byte { return bytes.Replace(b, []byte(" b\n"), []byte(" b\n\x00\x00\xff\n"), 1) }, []string{"n a", "n b", "n c", "n d"}},
		"zeros at the end":               {func(b []byte) []byte { return append(b, make([]byte, 5000)...) }, []string{"n a", "n b", "n c", "n d"}},
		"a megabyte of zeros at the end": {func(b []byte) []byte { return append(b, make([]byte, 1<<20)...) }, []string{"n a", "n b", "n c", "n d"}},
		"nothing is left":                {func(b []byte) []byte { return nil }, []string{"n d"}},
		"all of it is something else":    {func(b []byte) []byte { return bytes.Repeat([]byte("? "), 100) }, []string{"n d"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := logDir(t)
			l := open(t, dir, Options{})
			for _, n := range []string{"a", "b", "c"} {
				if err := l.Note(n); err != nil {
					t.Fatal(err)
				}
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(dir, fileName(1))
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, c.damage(b), 0o600); err != nil {
				t.Fatal(err)
			}
			l = open(t, dir, Options{})
			if err := l.Note("d"); err != nil {
				t.Fatal(err)
			}
			diff(t, words(all(t, l)), c.want)
		})
	}
}

func TestATornRecordIsTakenAgain(t *testing.T) {
	// Whatever byte a kill stopped at, no line is lost and none doubled.
	dir := logDir(t)
	p := newPicker(t)
	l := open(t, dir, Options{Picker: p})
	stdout, stderr := begin(t, l)
	write(t, stdout, "one\ntwo\nthree\n")
	write(t, stderr, "four\n")
	want := words(all(t, l))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, fileName(1)))
	if err != nil {
		t.Fatal(err)
	}
	for cut := range whole {
		if err := os.WriteFile(filepath.Join(dir, fileName(1)), whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l, err := Open(Options{Dir: dir, Picker: p})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Resume(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, words(all(t, l))); d != "" {
			t.Errorf("cut after %d of %d bytes (-want +got):\n%s", cut, len(whole), d)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPositionsSurviveRotation(t *testing.T) {
	// Standard error is silent while standard output turns the files over.
	dir := logDir(t)
	p := newPicker(t)
	o := Options{Picker: p, MaxSize: 64 << 10, MaxFiles: 2}
	l := open(t, dir, o)
	stdout, stderr := begin(t, l)
	write(t, stderr, "only once\n")
	_ = all(t, l)
	write(t, stdout, strings.Repeat(strings.Repeat("p", 99)+"\n", 3000))
	_ = all(t, l)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, o)
	if err := l.Resume(); err != nil {
		t.Fatal(err)
	}
	write(t, stderr, "twice\n")
	entries := words(all(t, l))
	if last := entries[len(entries)-1]; last != "e twice" || slices.Contains(entries, "e only once") {
		t.Errorf("the last entry is %q; taken again: %v", last, slices.Contains(entries, "e only once"))
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	testutil.Need(t, testutil.Root)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Skipf("tmpfs cannot be mounted here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(small, unix.MNT_DETACH) })
	var logged syncBuffer
	p := newPicker(t)
	l := open(t, small+"/log", Options{Picker: p, Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	stdout, _ := begin(t, l)
	ballast := small + "/ballast"
	// The output fits, the log of it does not.
	line := strings.Repeat("l", 1000)
	write(t, stdout, strings.Repeat(line+"\n", 40))
	fill(t, ballast)
	testutil.Eventually(t, 5*time.Second, func() error {
		write := l.Note("does not fit " + strings.Repeat("x", 8000))
		if write == nil {
			return errors.New("it fits")
		}
		return nil
	})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if err := l.Drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, e := range all(t, l) {
		if e.Line == line {
			n++
		}
	}
	if n != 40 {
		t.Errorf("%d of 40 lines are there", n)
	}
}

func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for {
		if _, err := f.Write(make([]byte, 4096)); err != nil {
			return
		}
	}
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
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

func TestManyIdleLogsCostNothing(t *testing.T) {
	p := newPicker(t)
	dir := t.TempDir()
	for i := range 200 {
		l := open(t, fmt.Sprintf("%s/%d", dir, i), Options{Picker: p})
		stdout, stderr := begin(t, l)
		_, _ = stdout.Close(), stderr.Close()
	}
	cpu := func() time.Duration {
		var u unix.Rusage
		if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
			t.Fatal(err)
		}
		return time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	<-time.After(100 * time.Millisecond) // what Begin caused
	before := cpu()
	<-time.After(500 * time.Millisecond)
	if used := cpu() - before; used > 100*time.Millisecond {
		t.Errorf("200 idle logs took %v of half a second", used)
	}
}

func TestWithoutWatchesOutputIsPolled(t *testing.T) {
	p := newPicker(t)
	p.mu.Lock()
	p.conn = nil
	p.mu.Unlock()
	l := open(t, logDir(t), Options{Picker: p})
	stdout, _ := begin(t, l)
	got := make(chan string, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() {
		_ = l.Read(ctx, outlet.LogOptions{Follow: true}, func(e outlet.LogEntry) error { got <- e.Line; return io.EOF })
	}()
	<-time.After(20 * time.Millisecond)
	write(t, stdout, "polled\n")
	select {
	case line := <-got:
		if line != "polled" {
			t.Errorf("got %q", line)
		}
	case <-ctx.Done():
		t.Error("nothing came")
	}
}
