package sdk

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/outletd/outlet/capability/logdriver"
)

// LogDriver keeps what containers print (docs/spec/capabilities.md §6). The sdk
// reads the FIFOs of hosts; the driver gets entries.
type LogDriver interface {
	// StartLogging returns where the entries of a container go. An error keeps
	// the container from being started.
	StartLogging(ctx context.Context, info logdriver.Info) (LogSink, error)
}

// LogSink takes the entries of one container, one after another. Its methods are
// called by one goroutine.
type LogSink interface {
	// Log keeps an entry, which is only valid during the call. While it does
	// not return, the container's output piles up, and when the pipe is full
	// the container waits. An error is logged, and the next entry comes.
	Log(e *logdriver.Entry) error
	// Close is called when all entries were given to Log. The host waits for
	// it when a container ends.
	Close() error
}

// LogReader is a LogDriver that has entries read again, for docker logs.
type LogReader interface {
	// ReadLogs gives the entries that config selects to emit, oldest first; with
	// Follow it goes on until ctx ends. An error of emit ends it and is to be
	// returned. Lines have no newlines; emit adds them.
	ReadLogs(ctx context.Context, info logdriver.Info, config logdriver.ReadConfig, emit func(*logdriver.Entry) error) error
}

func (h *Handler) addLog(d LogDriver) {
	if d == nil {
		return
	}
	h.logs = newLogStreams(h.log)
	reader, reads := d.(LogReader)
	h.add(map[string]method{
		logdriver.MethodStartLogging: with(func(r logdriver.StartLoggingRequest) string {
			return missing("File", r.File, "Info.ContainerID", r.Info.ContainerID)
		}, func(ctx context.Context, r logdriver.StartLoggingRequest) (any, error) {
			return empty{}, h.logs.start(ctx, r.File, func() (LogSink, error) { return d.StartLogging(ctx, r.Info) })
		}),
		logdriver.MethodStopLogging: with(func(r logdriver.StopLoggingRequest) string { return missing("File", r.File) },
			func(ctx context.Context, r logdriver.StopLoggingRequest) (any, error) {
				return empty{}, h.logs.stop(ctx, r.File)
			}),
		logdriver.MethodCapabilities: bare(func(context.Context) (any, error) {
			return struct{ Cap logdriver.Capabilities }{logdriver.Capabilities{ReadLogs: reads}}, nil
		}),
	})
	if reads {
		h.addOptional(logdriver.MethodReadLogs, h.readLogs(reader))
	}
}

// readLogs answers ReadLogs with a stream of entries.
func (h *Handler) readLogs(d LogReader) method {
	type args struct {
		Info   logdriver.Info
		Config *logdriver.ReadConfig
	}
	return func(ctx context.Context, body []byte, w http.ResponseWriter) (any, error) {
		a, err := decode(body, func(r args) string { return missing("Info.ContainerID", r.Info.ContainerID) })
		if err != nil {
			return nil, err
		}
		if a.Config == nil {
			a.Config = &logdriver.ReadConfig{Tail: -1}
		}
		if h.stopping.Err() != nil {
			return nil, WithStatus(http.StatusServiceUnavailable, errors.New("the plugin is ending"))
		}
		h.streams.Add(1)
		defer h.streams.Done()
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(h.stopping, cancel)() //nolint:contextcheck // ctx ends with the request, too

		out := http.NewResponseController(w)
		w.Header().Set("Content-Type", "application/octet-stream")
		var frame, line []byte
		sent := false
		if a.Config.Follow {
			// The host waits for the head of the answer, and a container can be
			// silent for days.
			sent = true
			if err := out.Flush(); err != nil {
				return nil, errStreamed
			}
		}
		err = d.ReadLogs(ctx, a.Info, *a.Config, func(e *logdriver.Entry) error {
			if err := ctx.Err(); err != nil {
				return err
			}
			frame = logdriver.AppendEntry(frame[:0], ended(e, &line))
			sent = true
			if _, err := w.Write(frame); err != nil {
				return fmt.Errorf("send log entries: %w", err)
			}
			if !a.Config.Follow {
				return nil
			}
			return out.Flush()
		})
		switch {
		case err == nil, ctx.Err() != nil: // nobody reads any more, or it ends as it should
		case !sent:
			return nil, err
		default:
			// What was sent cannot be taken back; the host sees that it is not
			// all.
			h.log.Warn("logs could not be read to the end", "container", a.Info.ContainerID, "err", err)
			panic(http.ErrAbortHandler)
		}
		return nil, errStreamed
	}
}

// ended is e with a newline at its end, if the line ends with it; the host prints
// what it gets. buf is where the line is put then.
func ended(e *logdriver.Entry, buf *[]byte) *logdriver.Entry {
	if e.Partial && !e.Metadata.Last {
		return e
	}
	with := *e
	*buf = append(append((*buf)[:0], e.Line...), '\n')
	with.Line = *buf
	return &with
}
