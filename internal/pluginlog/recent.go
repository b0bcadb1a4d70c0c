package pluginlog

import (
	"time"

	"github.com/outletd/outlet"
)

// What [Log.Last] can return at most.
const (
	maxRecent      = 50
	maxRecentBytes = 16 << 10
)

// recent holds the last lines of a start. The log's lock guards it.
type recent struct {
	entries []outlet.LogEntry
	bytes   int
}

func (r *recent) add(e outlet.LogEntry) {
	if len(e.Line) > maxRecentBytes {
		e.Line, e.Partial = e.Line[:maxRecentBytes], true
	}
	r.entries = append(r.entries, e)
	r.bytes += len(e.Line)
	drop := 0
	for len(r.entries)-drop > maxRecent || r.bytes > maxRecentBytes {
		r.bytes -= len(r.entries[drop].Line)
		drop++
	}
	r.entries = append(r.entries[:0], r.entries[drop:]...)
}

// taken is a line that is about to be added, while it still is part of a
// buffer.
type taken struct {
	line    []byte
	partial bool
}

// addLast adds the last of lines, which are those of one stream.
func (r *recent) addLast(stream byte, now time.Time, lines []taken) {
	for _, t := range lines[max(0, len(lines)-maxRecent):] {
		r.add(outlet.LogEntry{Stream: streamName(stream), Time: now, Line: string(t.line), Partial: t.partial})
	}
}

func (r *recent) last(n int) []outlet.LogEntry {
	n = min(max(n, 0), len(r.entries))
	return append([]outlet.LogEntry(nil), r.entries[len(r.entries)-n:]...)
}
