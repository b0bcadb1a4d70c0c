package pluginlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

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
	testutil.Eventually(t, time.Minute, func() error {
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
	// What Begin caused may take a while, on a busy machine.
	testutil.Eventually(t, time.Minute, func() error {
		before := cpu()
		<-time.After(500 * time.Millisecond)
		if used := cpu() - before; used > 100*time.Millisecond {
			return fmt.Errorf("200 idle logs took %v of half a second", used)
		}
		return nil
	})
}

// Whatever the rate, what is printed faster than it can be picked up does not
// stay on the disk.
func TestAFloodThatOutrunsThePickerIsCutOff(t *testing.T) {
	l := open(t, logDir(t), Options{Rate: Rate{Lines: -1, Bytes: -1, Burst: time.Second}})
	stdout, _ := begin(t, l)
	write(t, stdout, strings.Repeat("x", 2*truncateBytes))
	testutil.Eventually(t, time.Minute, func() error {
		st, err := stdout.Stat()
		if err == nil && st.Size() > truncateBytes {
			err = fmt.Errorf("%d bytes are there", st.Size())
		}
		return err
	})
	write(t, stdout, "\nlast\n")
	testutil.Eventually(t, time.Minute, func() error {
		entries := words(all(t, l))
		told := slices.ContainsFunc(entries, func(e string) bool { return strings.HasPrefix(e, "n dropped ") })
		if !told || entries[len(entries)-1] != "o last" {
			return fmt.Errorf("%d entries, the last is %.100q; a drop was told: %v", len(entries), entries[len(entries)-1], told)
		}
		return nil
	})
}
