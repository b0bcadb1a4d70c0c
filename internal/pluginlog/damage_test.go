package pluginlog

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/testutil"
)

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
	testutil.Need(t, testutil.Root, testutil.MountNS)
	small := t.TempDir()
	if err := unix.Mount("tmpfs", small, "tmpfs", 0, "size=256k"); err != nil {
		t.Fatal(err)
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
	testutil.Eventually(t, time.Minute, func() error {
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
