// Package progress draws how far something that takes a while has come: as one
// line of a terminal, or as a line for each of several things. It counts bytes
// and nothing else, and does not read the progress lines of the Engine API.
package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// every is how often the line is drawn at most.
const every = 100 * time.Millisecond

// Bar is one line that shows how much of a total has passed. Bytes may be
// written while it is cleared.
type Bar struct {
	w     io.Writer
	label string
	total int64
	width int
	now   func() time.Time

	mu      sync.Mutex
	done    int64
	drawn   time.Time
	cleared bool
}

// New makes a bar of at most width columns on w. total is in bytes, 0 if it is
// not known.
func New(w io.Writer, label string, total int64, width int) *Bar {
	return &Bar{w: w, label: label, total: total, width: width, now: time.Now}
}

// Write counts p and draws the line from time to time. It never fails: progress
// is no reason to stop.
func (b *Bar) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done += int64(len(p))
	if now := b.now(); !b.cleared && now.Sub(b.drawn) >= every {
		b.drawn = now
		fmt.Fprintf(b.w, "\r%s\x1b[K", b.line())
	}
	return len(p), nil
}

// Clear takes the line away; it is not drawn any more.
func (b *Bar) Clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cleared = true
	if !b.drawn.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}

// line is the label, a bar if there is room for it, and the bytes.
func (b *Bar) line() string {
	bytes := Bytes(b.done)
	if b.total <= 0 {
		return cut(b.label+"  "+bytes, b.width)
	}
	bytes += "/" + Bytes(b.total)
	room := min(b.width-len(b.label)-len(bytes)-7, 50)
	if room < 5 {
		return cut(b.label+"  "+bytes, b.width)
	}
	full := int(min(b.done, b.total) * int64(room) / b.total)
	bar := strings.Repeat("=", full)
	if full < room {
		bar += ">" + strings.Repeat(" ", room-full-1)
	}
	return fmt.Sprintf("%s  [%s]  %s", b.label, bar, bytes)
}

func cut(s string, width int) string {
	if width > 0 && len(s) >= width {
		return s[:width-1]
	}
	return s
}

// Bytes writes a number of bytes with at most four digits and a unit of a
// thousand, as Docker does: 512B, 1.5kB, 150MB.
func Bytes(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB"}
	v, i := float64(n), 0
	for v >= 1000 && i < len(units)-1 {
		v /= 1000
		i++
	}
	return fmt.Sprintf("%.4g%s", v, units[i])
}
