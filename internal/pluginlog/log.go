package pluginlog

import (
	"context"
	"log/slog"
	"os"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// Picker follows what plugins print: one goroutine and one watch of the kernel
// for all logs that name it. Idle logs cost it nothing.
type Picker struct{}

// NewPicker returns a picker that runs until [Picker.Close]. A nil logger
// discards.
func NewPicker(logger *slog.Logger) (*Picker, error) { return &Picker{}, nil }

// Close ends the picker and waits for it. Close the logs first.
func (p *Picker) Close() error { return nil }

// Log is what one plugin printed, over all its starts. All methods are safe for
// concurrent use, but Begin, Resume, Drain and Close are not to be called at the
// same time as each other.
type Log struct{}

// Open opens the log in o.Dir, or makes it. Whatever an interrupted write left
// torn is cut off. Open picks nothing up: see [Log.Begin] and [Log.Resume].
// There must be no other open Log for the directory.
func Open(o Options) (*Log, error) { return nil, errdefs.ErrNotImplemented }

// Begin makes the raw files of a new start of the plugin and follows them. The
// caller hands them to the process and closes them. What an earlier start left
// (its process must have ended) is picked up first.
func (l *Log) Begin() (stdout, stderr *os.File, err error) {
	return nil, nil, errdefs.ErrNotImplemented
}

// Resume goes on with the raw files of a start made by an earlier daemon. No
// line is lost or taken twice. errdefs.ErrNotFound: there are none.
func (l *Log) Resume() error { return errdefs.ErrNotImplemented }

// Note appends an entry of stream "outlet" for each line of text.
func (l *Log) Note(text string) error { return errdefs.ErrNotImplemented }

// Drain picks up all that was printed until now, the end of a line that was
// never finished too, and removes the raw files of the start. Call it when the
// plugin's processes have ended. It succeeds if no start is followed.
func (l *Log) Drain(ctx context.Context) error { return errdefs.ErrNotImplemented }

// Last returns the last lines, at most n, that the current start printed (after
// Drain: the one that ended), oldest first. There are at most 50 and 16 KiB of
// them.
func (l *Log) Last(n int) []outlet.LogEntry { return nil }

// Read calls f with the entries that o selects, oldest first, until f fails, o
// is satisfied or ctx ends; it returns the error of f, nil, or that of ctx. What
// has been printed when Read is called is included. With o.Follow it goes on
// until ctx ends, o.Until passes or the log is closed (both nil). f may be slow:
// it holds up nobody. If it is so slow that what it should read next was removed
// to keep the log's bounds, an entry of stream "outlet" says so.
func (l *Log) Read(ctx context.Context, o outlet.LogOptions, f func(outlet.LogEntry) error) error {
	return errdefs.ErrNotImplemented
}

// Close stops following the plugin's output, which stays where it is for a
// later [Log.Resume], and ends readers that follow. It may be called twice.
func (l *Log) Close() error { return nil }

// Remove removes the log in dir with all it holds. It must not be open. It
// succeeds if there is none.
func Remove(dir string) error { return os.RemoveAll(dir) }
