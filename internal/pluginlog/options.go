package pluginlog

import (
	"errors"
	"log/slog"
	"path/filepath"
	"time"
)

// Defaults of [Options].
const (
	DefaultMaxSize  = 10 << 20
	DefaultMaxFiles = 3
	DefaultMaxLine  = 16 << 10
)

// Options say where a log is kept and what bounds it.
type Options struct {
	// Dir is the log's directory, an absolute path; it is made if it is
	// missing, its parent must exist. Nothing else may be in it.
	Dir string
	// Picker follows what the plugin prints. It is required, and must be open
	// for as long as the log is.
	Picker *Picker
	// MaxSize is the size in bytes at which a file of the log is followed by a
	// new one; 0 is [DefaultMaxSize]. At least 64 KiB, and twice MaxLine.
	MaxSize int64
	// MaxFiles is how many files are kept, the one being written included; 0 is
	// [DefaultMaxFiles].
	MaxFiles int
	// MaxLine is the length in bytes at which a line is cut and goes on in the
	// next entry; 0 is [DefaultMaxLine]. Between 256 and 64 KiB.
	MaxLine int
	// Rate bounds how much is taken into the log; the zero value is
	// [DefaultRate].
	Rate Rate
	// Logger is told what is wrong with the log itself; nil discards it.
	Logger *slog.Logger
}

// Rate bounds how much of a plugin's output is taken into its log. What is
// beyond is dropped, and an entry says how much.
type Rate struct {
	// Lines and Bytes are for each second; negative is no limit.
	Lines, Bytes int64
	// Burst is for how long a plugin that was silent before may exceed them: as
	// much as that time's worth is taken at once.
	Burst time.Duration
}

// DefaultRate is the rate of logs that set none.
func DefaultRate() Rate { return Rate{Lines: 10_000, Bytes: 8 << 20, Burst: 5 * time.Second} }

// complete returns the options with defaults filled in.
func (o Options) complete() (Options, error) {
	if o.Picker == nil {
		return o, errors.New("a log needs a picker")
	}
	if !filepath.IsAbs(o.Dir) {
		return o, errors.New("the directory of a log must be an absolute path")
	}
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.MaxFiles == 0 {
		o.MaxFiles = DefaultMaxFiles
	}
	if o.MaxLine == 0 {
		o.MaxLine = DefaultMaxLine
	}
	if o.MaxSize < 64<<10 || o.MaxFiles < 1 || o.MaxLine < 256 || o.MaxLine > 64<<10 || int64(o.MaxLine) > o.MaxSize/2 {
		return o, errors.New("a log's file is at least 64 KiB, there is at least one, and a line is 256 bytes to 64 KiB and at most half a file")
	}
	if o.Rate == (Rate{}) {
		o.Rate = DefaultRate()
	}
	if o.Rate.Lines == 0 || o.Rate.Bytes >= 0 && o.Rate.Bytes < int64(o.MaxLine) || o.Rate.Burst < time.Second {
		return o, errors.New("a log's rate needs lines, bytes for at least one line (negative: no limit) and a burst of at least a second")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o, nil
}
