package store

import (
	"context"
	"io"
	"log/slog"

	"github.com/containerd/log"
	"github.com/sirupsen/logrus"
)

// bridge returns the logger that containerd's packages find in their context:
// what they warn of goes to logger, the rest nowhere.
func bridge(logger *slog.Logger) *log.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	l.SetLevel(logrus.WarnLevel)
	l.AddHook(bridgeHook{logger})
	return logrus.NewEntry(l)
}

type bridgeHook struct{ logger *slog.Logger }

func (bridgeHook) Levels() []logrus.Level {
	return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel}
}

func (h bridgeHook) Fire(e *logrus.Entry) error {
	ctx := e.Context
	if ctx == nil {
		ctx = context.Background()
	}
	attrs := make([]slog.Attr, 0, len(e.Data))
	for k, v := range e.Data {
		attrs = append(attrs, slog.Any(k, v))
	}
	h.logger.LogAttrs(ctx, slog.LevelWarn, e.Message, attrs...)
	return nil
}
