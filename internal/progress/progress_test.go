package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestBytesHaveAUnitOfAThousand(t *testing.T) {
	for n, want := range map[int64]string{0: "0B", 999: "999B", 1000: "1kB", 1500: "1.5kB", 150_000_000: "150MB", 1 << 40: "1.1TB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestTheLineFitsAndFills(t *testing.T) {
	for _, width := range []int{10, 20, 40, 80, 200} {
		b := New(nil, "Sending x", 1000, width)
		for _, done := range []int64{0, 1, 500, 1000, 2000} {
			b.done = done
			if line := b.line(); len(line) >= width {
				t.Errorf("width %d, %d bytes: %d columns: %q", width, done, len(line), line)
			}
		}
	}
	b := New(nil, "x", 1000, 80)
	b.done = 1000
	if line := b.line(); strings.Contains(line, ">") || !strings.HasSuffix(line, "1kB/1kB") {
		t.Errorf("complete, but %q", line)
	}
}

func TestItIsDrawnAtMostTenTimesASecond(t *testing.T) {
	var out bytes.Buffer
	now := time.Unix(1, 0)
	b := New(&out, "x", 0, 80)
	b.now = func() time.Time { return now }
	for range 1000 { // one second
		b.Write(make([]byte, 10))
		now = now.Add(time.Millisecond)
	}
	if n := strings.Count(out.String(), "\r"); n != 10 {
		t.Errorf("drawn %d times", n)
	}
	b.Clear()
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Error("the line was left behind")
	}
}
