package pluginlog

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
)

// Log is what one plugin printed, over all its starts. All methods are safe for
// concurrent use.
type Log struct {
	opts Options

	mu     sync.Mutex
	files  files
	raws   []*raw // of the start that is followed
	last   uint64 // number of the latest start
	bucket bucket
	recent recent
	// changed is closed and replaced when something was appended.
	changed chan struct{}
	// failing says that the last attempt to write failed, and was logged.
	failing bool
	closed  bool
}

var errClosed = errors.New("the log is closed")

// Open opens the log in o.Dir, or makes it. Whatever an interrupted write left
// torn is cut off. Open picks nothing up: see [Log.Begin] and [Log.Resume].
// There must be no other open Log for the directory.
func Open(o Options) (*Log, error) {
	o, err := o.complete()
	if err != nil {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "open log: %w", err)
	}
	if err := durable.Mkdir(o.Dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open log: %w", err)
	}
	l := &Log{
		opts:    o,
		bucket:  newBucket(o.Rate),
		changed: make(chan struct{}),
		files:   files{dir: o.Dir, maxSize: o.MaxSize, maxFiles: o.MaxFiles, table: crc32.MakeTable(crc32.Castagnoli)},
	}
	if err := l.files.open(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	if l.last, err = l.files.lastStart(); err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	starts, err := rawStarts(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	for _, start := range starts {
		l.last = max(l.last, start)
	}
	return l, nil
}

// Begin makes the raw files of a new start of the plugin and follows them. The
// caller hands them to the process and closes them. What an earlier start left
// (its process must have ended) is picked up first.
func (l *Log) Begin() (stdout, stderr *os.File, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, nil, errClosed
	}
	b := l.opts.Picker.buffers()
	defer l.opts.Picker.putBuffers(b)
	if err := l.finishLocked(context.Background(), b, 0); err != nil {
		// They stay for the next time. A full disk must not keep the plugin
		// from running.
		l.opts.Logger.Warn("the output of an earlier start cannot be picked up", "dir", l.opts.Dir, "error", err)
		l.dropRawsLocked()
	}
	l.recent = recent{}
	l.last++
	for _, stream := range []byte{kindStdout, kindStderr} {
		r, w, err := createRaw(l.opts.Dir, l.last, stream)
		if err != nil {
			for _, r := range l.raws {
				err = errors.Join(err, durable.Remove(r.file.Name()))
			}
			l.dropRawsLocked()
			if stdout != nil {
				err = errors.Join(err, stdout.Close())
			}
			return nil, nil, fmt.Errorf("keep the plugin's output: %w", err)
		}
		l.raws = append(l.raws, r)
		if stream == kindStdout {
			stdout = w
		} else {
			stderr = w
		}
	}
	for _, r := range l.raws {
		l.reportLocked(l.appendPositionLocked(r, b, time.Now()))
		r.watch = l.opts.Picker.follow(l, r.file.Name())
	}
	l.opts.Picker.again(l, time.Now())
	return stdout, stderr, nil
}

// Resume goes on with the raw files of a start made by an earlier daemon. No
// line is lost or taken twice. errdefs.ErrNotFound: there are none.
func (l *Log) Resume() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	if len(l.raws) > 0 {
		return outlet.Errorf(errdefs.ErrConflict, "resume log: the output is followed already")
	}
	starts, err := rawStarts(l.opts.Dir)
	if err != nil {
		return fmt.Errorf("resume log: %w", err)
	}
	if len(starts) == 0 {
		return outlet.Errorf(errdefs.ErrNotFound, "resume log: there is no output of an earlier start in %s", l.opts.Dir)
	}
	b := l.opts.Picker.buffers()
	defer l.opts.Picker.putBuffers(b)
	latest := starts[len(starts)-1]
	if err := l.finishLocked(context.Background(), b, latest); err != nil {
		return fmt.Errorf("resume log: %w", err)
	}
	if err := l.openLocked(latest); err != nil {
		return fmt.Errorf("resume log: %w", err)
	}
	for _, r := range l.raws {
		l.reportLocked(l.skipLocked(r, b))
		if r.exempt, err = r.size(); err != nil {
			l.dropRawsLocked()
			return fmt.Errorf("resume log: %w", err)
		}
		r.watch = l.opts.Picker.follow(l, r.file.Name())
	}
	l.opts.Picker.again(l, time.Now())
	return nil
}

// openLocked opens the raw files of a start at the positions the log has, and
// recalls its last lines.
func (l *Log) openLocked(start uint64) error {
	at, err := l.files.positions(start)
	if err != nil {
		return err
	}
	if l.raws, err = openRaw(l.opts.Dir, start, at); err != nil {
		return err
	}
	l.recent = recent{}
	if l.files.seq == 0 {
		return nil
	}
	return l.files.records(l.files.seq, []int64{positionWindow}, func(r record) {
		if e, ok := r.entry(); ok && r.kind != kindNote && r.pos.start == start {
			l.recent.add(e)
		}
	}, func() bool { return true })
}

// finishLocked picks up all that starts other than but have left, the followed
// one included, and removes their raw files.
func (l *Log) finishLocked(ctx context.Context, b *buffers, but uint64) error {
	if len(l.raws) > 0 {
		if err := l.drainLocked(ctx, b); err != nil {
			return err
		}
	}
	starts, err := rawStarts(l.opts.Dir)
	if err != nil {
		return err
	}
	for _, start := range starts {
		if start == but {
			continue
		}
		if err := l.openLocked(start); err != nil {
			return err
		}
		if err := l.drainLocked(ctx, b); err != nil {
			l.dropRawsLocked()
			return err
		}
	}
	return nil
}

// drainLocked picks up all that the raw files hold and removes them.
func (l *Log) drainLocked(ctx context.Context, b *buffers) error {
	for _, r := range l.raws {
		if err := l.skipLocked(r, b); err != nil {
			return err
		}
		for {
			if err := ctx.Err(); err != nil {
				return err
			}
			next, err := l.pickLocked(r, b, passBytes, true)
			if err != nil {
				return err
			}
			if next.IsZero() {
				break
			}
		}
	}
	var errs []error
	for _, r := range l.raws {
		errs = append(errs, durable.Remove(r.file.Name()))
	}
	l.dropRawsLocked()
	return errors.Join(errs...)
}

// dropRawsLocked stops following the raw files, and leaves them where they are.
func (l *Log) dropRawsLocked() {
	for _, r := range l.raws {
		if r.watch >= 0 {
			l.opts.Picker.forget(r.watch)
		}
		_ = r.file.Close() // nothing was written through it
	}
	l.raws = nil
	l.opts.Picker.leave(l)
}

// wake picks up what is new and returns when to come back, zero when an event
// will tell.
func (l *Log) wake() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wakeLocked()
}

func (l *Log) wakeLocked() time.Time {
	if l.closed || len(l.raws) == 0 {
		return time.Time{}
	}
	b := l.opts.Picker.buffers()
	defer l.opts.Picker.putBuffers(b)
	var next time.Time
	var errs []error
	for _, r := range l.raws {
		at, err := l.pickLocked(r, b, passBytes, false)
		errs = append(errs, err)
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	l.reportLocked(errors.Join(errs...))
	return next
}

// catchUpLocked picks up what is there now, but for a plugin that prints faster.
func (l *Log) catchUpLocked() {
	const passes = 64
	var next time.Time
	for range passes {
		if next = l.wakeLocked(); next.IsZero() || next.After(time.Now()) {
			break
		}
	}
	l.opts.Picker.again(l, next)
}

// reportLocked logs that the log cannot be written, once until it can again.
func (l *Log) reportLocked(err error) {
	if err != nil && !l.failing {
		l.opts.Logger.Error("a plugin's log cannot be written; it is tried again", "dir", l.opts.Dir, "error", err)
	}
	l.failing = err != nil
}

// changedLocked wakes readers that follow.
func (l *Log) changedLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Note appends an entry of stream "outlet" for each line of text.
func (l *Log) Note(text string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	l.catchUpLocked() // what the plugin printed before comes before
	var batch []byte
	now := time.Now().UnixNano()
	for line := range strings.Lines(strings.TrimRight(text, "\n") + "\n") {
		line = strings.TrimSuffix(line, "\n")
		for {
			part, partial := line, false
			if len(line) > l.opts.MaxLine {
				part, _, partial = cutText(line, l.opts.MaxLine)
			}
			batch = appendRecord(batch, l.files.table, record{kind: kindNote, partial: partial, time: now, text: []byte(part)})
			line = line[len(part):]
			if line == "" {
				break
			}
		}
	}
	if err := l.files.append(batch, l.headerLocked); err != nil {
		return fmt.Errorf("write log: %w", err)
	}
	l.changedLocked()
	return nil
}

func cutText(line string, limit int) (string, int, bool) {
	part, size, partial := cutLine([]byte(line), limit)
	return string(part), size, partial
}

// Drain picks up all that was printed until now, the end of a line that was
// never finished too, and removes the raw files of the start. Call it when the
// plugin's processes have ended. It succeeds if no start is followed. If it
// fails (ctx ended, the disk is full) it can be called again.
func (l *Log) Drain(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errClosed
	}
	b := l.opts.Picker.buffers()
	defer l.opts.Picker.putBuffers(b)
	if err := l.drainLocked(ctx, b); err != nil {
		return fmt.Errorf("pick up the plugin's last output: %w", err)
	}
	return nil
}

// Last returns the last lines, at most n, that the current start printed (after
// Drain: the one that ended), oldest first. There are at most 50 and 16 KiB of
// them.
func (l *Log) Last(n int) []outlet.LogEntry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.last(n)
}

// Close stops following the plugin's output, which stays where it is for a
// later [Log.Resume], and ends readers that follow. It may be called twice.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.dropRawsLocked()
	l.changedLocked()
	return l.files.close()
}

// Remove removes the log in dir with all it holds. It must not be open. It
// succeeds if there is none.
func Remove(dir string) error {
	if !filepath.IsAbs(dir) {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "remove log: %q is not an absolute path", dir)
	}
	return durable.RemoveAll(dir)
}
