package pluginlog

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"time"

	"github.com/outletd/outlet"
)

// Read calls f with the entries that o selects, oldest first, until f fails, o
// is satisfied or ctx ends; it returns the error of f, nil, or that of ctx. What
// has been printed when Read is called is included. With o.Follow it goes on
// until ctx ends, o.Until passes or the log is closed (the latter two: nil). f
// may be slow: it holds up nobody. If it is so slow that what it should read
// next was removed to keep the log's bounds, an entry of stream "outlet" says
// so.
func (l *Log) Read(ctx context.Context, o outlet.LogOptions, f func(outlet.LogEntry) error) error {
	r := reader{log: l, o: o, f: f}
	defer r.close()
	l.mu.Lock()
	l.catchUpLocked()
	l.mu.Unlock()
	end, changed := l.end()
	if err := r.locate(end); err != nil {
		return err
	}
	until, stop := untilTimer(o)
	defer stop()
	for {
		if err := r.readTo(ctx, end); err != nil || !o.Follow || end.closed {
			return err
		}
		select {
		case <-changed:
		case <-until:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		end, changed = l.end()
	}
}

// untilTimer returns a channel that tells when following is to end; nil where
// nothing ends it.
func untilTimer(o outlet.LogOptions) (<-chan time.Time, func() bool) {
	if !o.Follow || o.Until.IsZero() {
		return nil, func() bool { return false }
	}
	t := time.NewTimer(time.Until(o.Until))
	return t.C, t.Stop
}

// extent is how far a log reaches.
type extent struct {
	first, seq uint64 // numbers of the oldest and newest file; 0: there is none
	size       int64  // of the newest
	closed     bool
}

// end returns how far the log reaches, and a channel that is closed when it
// reaches further or is closed.
func (l *Log) end() (extent, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return extent{first: l.files.first, seq: l.files.seq, size: l.files.size, closed: l.closed}, l.changed
}

// reader is one call of Read.
type reader struct {
	log *Log
	o   outlet.LogOptions
	f   func(outlet.LogEntry) error

	// seq and off are where it reads next; 0: at the beginning of what will be
	// the first file.
	seq  uint64
	off  int64
	file *os.File // number seq, or nil
}

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close() // it was only read
		r.file = nil
	}
}

// selects says whether the reader wants a record.
func (r *reader) selects(rec record) bool {
	switch rec.kind {
	case kindStdout, kindStderr, kindNote:
	default:
		return false
	}
	if !r.o.Since.IsZero() && rec.time < r.o.Since.UnixNano() || !r.o.Until.IsZero() && rec.time > r.o.Until.UnixNano() {
		return false
	}
	return true
}

// tailWindow is how far before the end of a file the last entries are looked
// for first.
const tailWindow = 128 << 10

// locate finds where to begin.
func (r *reader) locate(end extent) error {
	want := r.o.Tail
	if want == 0 {
		r.seq, r.off = end.seq, end.size
		return nil
	}
	r.seq, r.off = end.first, 0
	if want < 0 {
		return nil
	}
	for seq := end.seq; seq >= end.first && seq > 0; seq-- {
		at, found, err := r.tail(seq, end, want)
		if err != nil {
			return err
		}
		if found >= want {
			r.seq, r.off = seq, at
			return nil
		}
		want -= found
	}
	return nil
}

// tail looks in a file for the last entries that are selected, want of them. It
// returns the offset of the first of them and how many there are.
func (r *reader) tail(seq uint64, end extent, want int) (at int64, found int, err error) {
	f, err := os.Open(r.log.files.path(seq))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	size, err := sizeIn(f, seq, end)
	if err != nil {
		return 0, 0, err
	}
	for window := int64(tailWindow); ; window *= 4 {
		from := max(0, size-window)
		if from > 0 {
			if from, err = nextRecord(f, from, size); err != nil {
				return 0, 0, err
			}
		}
		var offsets []int64
		err := scanRecords(f, r.log.files.table, from, size, func(offset int64, rec record) bool {
			if r.selects(rec) {
				offsets = append(offsets, offset)
			}
			return true
		})
		if err != nil {
			return 0, 0, err
		}
		if n := len(offsets); n >= want {
			return offsets[n-want], want, nil
		} else if size <= window {
			return 0, n, nil
		}
	}
}

// sizeIn returns how much of a file counts: of the newest what was whole when
// the extent was taken.
func sizeIn(f *os.File, seq uint64, end extent) (int64, error) {
	if seq == end.seq {
		return end.size, nil
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// readTo reads up to the end.
func (r *reader) readTo(ctx context.Context, end extent) error {
	if end.seq == 0 {
		return ctx.Err()
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.open(end); err != nil {
			return err
		}
		if r.seq > end.seq { // rotation went past where this was to end
			end, _ = r.log.end()
		}
		size, err := sizeIn(r.file, r.seq, end)
		if err != nil {
			return err
		}
		if err := r.readFile(ctx, size); err != nil {
			return err
		}
		if r.seq >= end.seq {
			return nil
		}
		r.close()
		r.seq, r.off = r.seq+1, 0
	}
}

// open opens the file to be read, or, where rotation has removed it, the oldest
// there is.
func (r *reader) open(end extent) error {
	for r.file == nil {
		if r.seq == 0 {
			r.seq, r.off = end.first, 0
		}
		f, err := os.Open(r.log.files.path(r.seq))
		if err == nil {
			r.file = f
			return nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		now, _ := r.log.end()
		if now.first <= r.seq { // not removed by us
			now.first = r.seq + 1
		}
		if now.first > now.seq {
			return err
		}
		r.seq, r.off = now.first, 0
		if err := r.f(outlet.LogEntry{Stream: "outlet", Time: time.Now().UTC(), Line: "lines are missing here: they were removed to keep the log's size before they were read"}); err != nil {
			return err
		}
	}
	return nil
}

// readFile reads the open file up to an offset.
func (r *reader) readFile(ctx context.Context, to int64) error {
	if r.off >= to {
		return nil
	}
	var err error
	scanErr := scanRecords(r.file, r.log.files.table, r.off, to, func(_ int64, rec record) bool {
		if !r.selects(rec) {
			return true
		}
		e, ok := rec.entry()
		if !ok {
			return true
		}
		if err = ctx.Err(); err == nil {
			err = r.f(e)
		}
		return err == nil
	})
	r.off = to
	return errors.Join(err, scanErr)
}
