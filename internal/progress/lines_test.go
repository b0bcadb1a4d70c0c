package progress

import (
	"bytes"
	"strings"
	"testing"
)

func TestElsewhereThanOnATerminalEachStatusIsALine(t *testing.T) {
	var out bytes.Buffer
	l := NewLines(&out, 0)
	l.Update("latest", "Pulling from sample/x", 0, 0)
	for n := range int64(10) {
		l.Update("aaa", "Downloading", n, 10)
		l.Update("bbb", "Waiting", 0, 0)
	}
	l.Update("aaa", "Download complete", 0, 0)
	l.Update("", "Digest: sha256:x", 0, 0)
	want := "latest: Pulling from sample/x\naaa: Downloading\nbbb: Waiting\naaa: Download complete\nDigest: sha256:x\n"
	if out.String() != want {
		t.Errorf("printed\n%s", out.String())
	}
}

// screen obeys what Lines writes, as a terminal would.
func screen(t *testing.T, written string) []string {
	t.Helper()
	rows, y := []string{""}, 0
	for written != "" {
		var n int
		switch {
		case strings.HasPrefix(written, "\x1b[2K"):
			rows[y], n = "", 4
		case strings.HasPrefix(written, "\x1b["):
			i := 2
			count := 0
			for ; written[i] >= '0' && written[i] <= '9'; i++ {
				count = count*10 + int(written[i]-'0')
			}
			if written[i] == 'A' {
				y -= count
			} else {
				y += count
			}
			n = i + 1
		case written[0] == '\n':
			if y++; y == len(rows) {
				rows = append(rows, "")
			}
			n = 1
		case written[0] == '\r':
			n = 1
		default:
			rows[y] += written[:1]
			n = 1
		}
		if y < 0 || y >= len(rows) {
			t.Fatalf("row %d of %d", y, len(rows))
		}
		written = written[n:]
	}
	return rows
}

func TestOnATerminalEachThingHasItsRow(t *testing.T) {
	var out bytes.Buffer
	l := NewLines(&out, 120)
	l.Update("latest", "Pulling from sample/x", 0, 0)
	l.Update("", "Digest: sha256:x", 0, 0)
	for _, id := range []string{"aaa", "bbb", "ccc"} {
		l.Update(id, "Waiting", 0, 0)
	}
	l.Update("bbb", "Downloading", 500, 1000)
	l.Update("aaa", "Download complete", 0, 0)
	want := []string{
		"latest: Pulling from sample/x", "Digest: sha256:x", "aaa: Download complete",
		"bbb: Downloading [=========================>                         ]     500B/1kB", "ccc: Waiting", "",
	}
	if got := screen(t, out.String()); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the screen shows\n%s", strings.Join(got, "\n"))
	}
}

func TestWithoutRoomForABarTheBytesAreShown(t *testing.T) {
	for width, want := range map[int]string{80: "aaa: Downloading     500B/1kB\n", 200: "aaa: Downloading [=========================>                         ]     500B/1kB\n"} {
		var out bytes.Buffer
		NewLines(&out, width).Update("aaa", "Downloading", 500, 1000)
		if out.String() != want {
			t.Errorf("width %d: %q", width, out.String())
		}
	}
}

func TestRowsFitTheTerminal(t *testing.T) {
	for _, width := range []int{10, 40, 80} {
		var out bytes.Buffer
		NewLines(&out, width).Update("aaa", "Downloading", 1, 3)
		if row := strings.TrimSuffix(out.String(), "\n"); len(row) >= width {
			t.Errorf("width %d: %q", width, row)
		}
	}
}
