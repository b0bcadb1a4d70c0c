package daemon

import (
	"context"
	"io"
	"log/slog"
	"strings"

	"github.com/sirupsen/logrus"
)

// adoptContainerdLog sends what containerd's packages tell the whole process,
// and not a context, to our log. They warn of what is ordinary to us (a file
// system without fs-verity), so it is for those who debug.
func adoptContainerdLog(l *slog.Logger) {
	logrus.SetOutput(io.Discard)
	logrus.AddHook(containerdHook{l})
}

type containerdHook struct{ log *slog.Logger }

func (containerdHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h containerdHook) Fire(e *logrus.Entry) error {
	attrs := []any{"from", "containerd", "level", e.Level.String()}
	for k, v := range e.Data {
		attrs = append(attrs, k, v)
	}
	h.log.DebugContext(context.Background(), e.Message, attrs...)
	return nil
}

func logLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "fatal":
		return slog.LevelError, nil
	}
	return 0, invalid("log-level: %q is none of debug, info, warn, error", name)
}

func setLevel(v *slog.LevelVar, c Config) {
	l, err := logLevel(c.LogLevel)
	if err != nil || c.Debug { // validated when it was read
		l = slog.LevelDebug
	}
	v.Set(l)
}

func newLogger(w io.Writer, c Config, level *slog.LevelVar) *slog.Logger {
	setLevel(level, c)
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}
