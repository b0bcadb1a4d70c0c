package progress

import (
	"fmt"
	"io"
	"strings"
	"sync"
)

const (
	// barWidth is the length of a bar in Docker's output.
	barWidth = 50
	// wide is how many columns a row with a bar needs.
	wide = 105
)

// Lines shows how far several things are, a line for each, as Docker's clients
// do: on a terminal the lines are drawn anew, elsewhere each new status is one
// line and bars are left out.
type Lines struct {
	w     io.Writer
	width int // of the terminal; 0 is none

	mu   sync.Mutex
	rows []string // ids, from top to bottom
	last map[string]string
}

// NewLines makes lines on w. width is the number of columns of the terminal, 0
// if w is none.
func NewLines(w io.Writer, width int) *Lines {
	return &Lines{w: w, width: width, last: make(map[string]string)}
}

// Update says that what is called id has come to status; "" is a remark about
// nothing in particular. current and total are in bytes, total 0 is not known.
func (l *Lines) Update(id, status string, current, total int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := status
	if l.width > 0 && (current > 0 || total > 0) {
		text += " " + bar(current, total, l.width >= wide)
	}
	if id != "" {
		text = id + ": " + text
		if l.last[id] == text {
			return
		}
	}
	if l.width == 0 {
		l.plain(id, text)
		return
	}
	l.draw(id, cut(text, l.width))
	if id != "" {
		l.last[id] = text
	}
}

func (l *Lines) plain(id, text string) {
	if id != "" {
		l.last[id] = text
	}
	fmt.Fprintln(l.w, text)
}

// draw writes a row in its place. A remark goes below all rows, and the rows
// after it begin anew below it.
func (l *Lines) draw(id, text string) {
	if id == "" {
		fmt.Fprintf(l.w, "%s\n", text)
		l.rows = nil
		return
	}
	at := -1
	for i, row := range l.rows {
		if row == id {
			at = i
		}
	}
	if at < 0 {
		l.rows = append(l.rows, id)
		fmt.Fprintf(l.w, "%s\n", text)
		return
	}
	up := len(l.rows) - at
	fmt.Fprintf(l.w, "\x1b[%dA\r\x1b[2K%s\r\x1b[%dB", up, text, up)
}

// bar is how Docker's clients show bytes: with a bar, where there is room.
func bar(current, total int64, room bool) string {
	if total <= 0 || current > total {
		return fmt.Sprintf("%8s", Bytes(current))
	}
	if !room {
		return fmt.Sprintf("%8s/%s", Bytes(current), Bytes(total))
	}
	full := int(float64(current) / float64(total) * barWidth)
	return fmt.Sprintf("[%s>%s] %8s/%s", strings.Repeat("=", full), strings.Repeat(" ", barWidth-full), Bytes(current), Bytes(total))
}
