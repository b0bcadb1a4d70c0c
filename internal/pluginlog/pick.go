package pluginlog

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/outletd/outlet/internal/durable"
)

const (
	// passBytes bounds what one pass takes of a raw file, so that a plugin that
	// prints much does not keep others waiting.
	passBytes = 1 << 20
	// readSize is how much of a raw file is read at once, beside a whole line.
	readSize = 64 << 10
	// batchSize is about how much is appended to a log at once.
	batchSize = 128 << 10
	// keepWhileDropping is how much of the end of a raw file is not dropped: if
	// the plugin dies now, the reason is there.
	keepWhileDropping = 16 << 10
	// dropInterval is how often what is dropped is cut out of the raw file, and
	// floodInterval how often if there was more than floodBytes of it: a plugin
	// may print a gigabyte a second, and all of it is on disk until then.
	dropInterval  = 100 * time.Millisecond
	floodInterval = 5 * time.Millisecond
	floodBytes    = 4 << 20
	// truncateBytes is how much may be dropped by cutting it out. Some
	// filesystems write first what is cut out then, which a plugin outruns; more
	// than this is truncated away, the end included.
	truncateBytes = 64 << 20
	// retryInterval is when writing is tried again after it failed.
	retryInterval = time.Second
	// pollInterval is how often raw files are looked at that cannot be watched.
	pollInterval = 250 * time.Millisecond
)

// buffers are what picking needs, kept by the picker for all logs.
type buffers struct {
	in    []byte // read from a raw file
	out   []byte // records to be appended
	lines []taken
}

// pickLocked takes what is new in r, about limit bytes of it at most. final
// says that nothing more will come: the end counts as a line, and the rate does
// not apply. It returns when to come back, zero when an event will tell.
func (l *Log) pickLocked(r *raw, b *buffers, limit int64, final bool) (time.Time, error) {
	size, err := r.size()
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	if size < r.off { // the plugin truncated it
		r.off, r.punched, r.exempt = 0, 0, 0
		if err := l.appendPositionLocked(r, b, now); err != nil {
			return now.Add(retryInterval), err
		}
	}
	l.bucket.refill(now)
	if !final && r.off >= r.exempt && size-r.off > truncateBytes {
		// It may keep to the rate, but prints faster than it can be picked up.
		r.dropping = true
		return now.Add(floodInterval), l.truncateLocked(r, b, now)
	}
	if r.dropping {
		if !final && !l.bucket.recovered() {
			return now.Add(dropPause(size - r.off)), l.dropLocked(r, b, now, size, keepWhileDropping)
		}
		if err := l.endDropLocked(r, b, now, size, final); err != nil {
			return now.Add(retryInterval), err
		}
	}
	for took := int64(0); took < limit; {
		n, err := l.pickOnceLocked(r, b, now, final)
		took += n
		if err != nil {
			return now.Add(retryInterval), err
		}
		if r.dropping {
			return now.Add(dropPause(size - r.off)), l.dropLocked(r, b, now, size, keepWhileDropping)
		}
		if n == 0 {
			if r.watch < 0 && !final {
				return now.Add(pollInterval), nil
			}
			return time.Time{}, nil
		}
	}
	return now, nil
}

// dropPause is when to drop again after so much was dropped.
func dropPause(dropped int64) time.Duration {
	if dropped > floodBytes {
		return floodInterval
	}
	return dropInterval
}

// pickOnceLocked takes the lines of one buffer and returns how many bytes it
// took.
func (l *Log) pickOnceLocked(r *raw, b *buffers, now time.Time, final bool) (int64, error) {
	if need := readSize + l.opts.MaxLine; len(b.in) < need {
		b.in = make([]byte, need)
	}
	n, err := r.file.ReadAt(b.in, r.off)
	if err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	in := b.in[:n]
	whole := final && n < len(b.in) // the rest of the buffer is the end of the output
	var took int64
	for len(in) > 0 && !r.dropping {
		size, err := l.pickBatchLocked(r, b, in, now, whole, final)
		if err != nil || size == 0 {
			return took, err
		}
		in = in[size:]
		took += size
	}
	return took, nil
}

// pickBatchLocked takes lines from the beginning of in, and returns how many
// bytes they take. whole says that the end of in counts as a line.
func (l *Log) pickBatchLocked(r *raw, b *buffers, in []byte, now time.Time, whole, final bool) (int64, error) {
	b.out, b.lines = b.out[:0], b.lines[:0]
	limit := min(batchSize, l.opts.MaxSize/4)
	off := r.off
	for len(in) > 0 && int64(len(b.out)) < limit {
		line, size, partial := cutLine(in, l.opts.MaxLine)
		if size == 0 {
			if !whole {
				break
			}
			line, size = in, len(in)
		}
		if !final && off >= r.exempt && !l.bucket.take(size) {
			r.dropping = true
			break
		}
		off += int64(size)
		in = in[size:]
		b.out = appendRecord(b.out, l.files.table, record{kind: r.stream, partial: partial, time: now.UnixNano(), pos: r.position(off), text: line})
		b.lines = append(b.lines, taken{line: line, partial: partial})
	}
	if len(b.lines) == 0 {
		return 0, nil
	}
	size := off - r.off
	if err := l.commitLocked(r, b, now, off); err != nil {
		return 0, err
	}
	l.recent.addLast(r.stream, now, b.lines)
	return size, nil
}

// commitLocked appends b.out, after which r has been picked up to off.
func (l *Log) commitLocked(r *raw, b *buffers, now time.Time, off int64) error {
	checkpoint := l.files.due()
	if checkpoint {
		for _, other := range l.raws {
			at := other.off
			if other == r {
				at = off
			}
			b.out = l.appendProgress(b.out, other, at, now)
		}
	}
	if err := l.files.append(b.out, l.headerLocked); err != nil {
		return err
	}
	if checkpoint {
		l.files.checked = l.files.size
	}
	r.off = off
	l.changedLocked()
	if err := r.punch(); err != nil {
		// The log is right nevertheless.
		l.opts.Logger.Warn("a plugin's output cannot be cut out of its raw file", "file", r.file.Name(), "error", err)
	}
	return nil
}

// headerLocked appends the positions of all raw files to the beginning of a
// file.
func (l *Log) headerLocked(b []byte) []byte {
	for _, r := range l.raws {
		b = l.appendProgress(b, r, r.off, time.Now())
	}
	return b
}

func (l *Log) appendProgress(b []byte, r *raw, off int64, now time.Time) []byte {
	return appendRecord(b, l.files.table, record{
		kind: kindPosition, time: now.UnixNano(), pos: r.position(off), text: strconv.AppendInt(nil, r.dropped, 10),
	})
}

// appendPositionLocked makes the position of r durable.
func (l *Log) appendPositionLocked(r *raw, b *buffers, now time.Time) error {
	b.out = l.appendProgress(b.out[:0], r, r.off, now)
	return l.commitLocked(r, b, now, r.off)
}

// dropLocked drops what is new in r but for the last keep bytes.
func (l *Log) dropLocked(r *raw, b *buffers, now time.Time, size, keep int64) error {
	if size-r.off <= keep {
		return nil
	}
	if int64(len(b.in)) < keep {
		b.in = make([]byte, max(keep, int64(readSize+l.opts.MaxLine)))
	}
	to, err := r.lineStart(b.in, size, keep)
	if err != nil || to == r.off {
		return err
	}
	before := r.dropped
	r.dropped += to - r.off
	b.out = l.appendProgress(b.out[:0], r, to, now)
	if err := l.commitLocked(r, b, now, to); err != nil {
		r.dropped = before
		return err
	}
	return nil
}

// truncateLocked drops all there is in r, while the plugin, which appends, goes
// on from the beginning of the file. A daemon that is killed before the new
// position is durable may take up a flood in the middle of a line.
func (l *Log) truncateLocked(r *raw, b *buffers, now time.Time) error {
	size, err := r.size() // as late as possible: what comes in between is not counted
	if err != nil {
		return err
	}
	if err := durable.Truncate(r.file, 0); err != nil {
		return fmt.Errorf("drop the output of the plugin: %w", err)
	}
	r.dropped += max(size-r.off, 0)
	r.off, r.punched, r.exempt = 0, 0, 0
	return l.appendPositionLocked(r, b, now)
}

// endDropLocked tells how much was dropped, and goes on with what is new.
func (l *Log) endDropLocked(r *raw, b *buffers, now time.Time, size int64, final bool) error {
	if !final {
		if err := l.dropLocked(r, b, now, size, keepWhileDropping); err != nil {
			return err
		}
	}
	if r.dropped > 0 {
		note := fmt.Sprintf("dropped %d bytes of %s: the plugin prints more than is kept (%s)", r.dropped, streamName(r.stream), l.opts.Rate)
		if err := l.tellDropLocked(r, b, now, note); err != nil {
			return err
		}
	}
	r.dropping = false
	return nil
}

func (l *Log) tellDropLocked(r *raw, b *buffers, now time.Time, note string) error {
	b.out = appendRecord(b.out[:0], l.files.table, record{kind: kindNote, time: now.UnixNano(), pos: r.position(r.off), text: []byte(note)})
	before := r.dropped
	r.dropped = 0
	if err := l.commitLocked(r, b, now, r.off); err != nil {
		r.dropped = before
		return err
	}
	return nil
}

// skipLocked drops what r holds beyond what the log could keep of it.
func (l *Log) skipLocked(r *raw, b *buffers) error {
	size, err := r.size()
	if err != nil {
		return err
	}
	keep := l.opts.MaxSize * int64(l.opts.MaxFiles) / 2
	if size-r.off <= keep {
		return nil
	}
	now := time.Now()
	if len(b.in) < readSize+l.opts.MaxLine {
		b.in = make([]byte, readSize+l.opts.MaxLine)
	}
	to, err := r.lineStart(b.in, size, keep)
	if err != nil {
		return err
	}
	r.dropped += to - r.off
	b.out = l.appendProgress(b.out[:0], r, to, now)
	if err := l.commitLocked(r, b, now, to); err != nil {
		return err
	}
	return l.tellDropLocked(r, b, now, fmt.Sprintf("dropped %d bytes of %s: more than the log can hold was printed before it was picked up", r.dropped, streamName(r.stream)))
}

// String returns the rate in words.
func (r Rate) String() string {
	text := ""
	if r.Lines > 0 {
		text = fmt.Sprintf("%d lines", r.Lines)
	}
	if r.Bytes > 0 {
		if text != "" {
			text += " or "
		}
		text += fmt.Sprintf("%d bytes", r.Bytes)
	}
	if text == "" {
		return "no limit"
	}
	return text + " a second"
}
