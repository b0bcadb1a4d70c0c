package sdk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"github.com/outletd/outlet/capability/logdriver"
)

// logStreams are the FIFOs that are being read.
type logStreams struct {
	log *slog.Logger

	mu     sync.Mutex
	closed bool
	byFile map[string]*logStream
}

func newLogStreams(log *slog.Logger) *logStreams {
	return &logStreams{log: log, byFile: make(map[string]*logStream)}
}

// logStream is one FIFO; done is closed when its sink is.
type logStream struct {
	fifo     fifo // nil until it is open
	stopping bool
	done     chan struct{}
	err      error // of the sink's Close, once done is closed
}

// fifo is the reading end of what a host writes to. Read waits, until drain is
// called: from then on it returns io.EOF where it would wait.
type fifo interface {
	io.ReadCloser
	drain()
}

// start reads file until stop, and gives its entries to a sink. A host that
// lost its answer, or was started again, may start the same file once more; that
// is no second stream.
func (l *logStreams) start(ctx context.Context, file string, open func() (LogSink, error)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s := &logStream{done: make(chan struct{})}
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return errors.New("the plugin is ending")
	}
	if _, ok := l.byFile[file]; ok {
		l.mu.Unlock()
		return nil
	}
	l.byFile[file] = s
	l.mu.Unlock()
	sink, err := l.open(s, file, open)
	if err != nil {
		l.forget(file, s)
		close(s.done)
		return err
	}
	go l.run(s, file, sink) // waited for by stop and close
	return nil
}

func (l *logStreams) open(s *logStream, file string, open func() (LogSink, error)) (LogSink, error) {
	f, err := openFIFO(file)
	if err != nil {
		return nil, err
	}
	sink, err := open()
	if err == nil && sink == nil {
		err = errors.New("the driver returned no sink")
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.fifo = f
	if l.closed || s.stopping {
		f.drain()
	}
	return sink, nil
}

func (l *logStreams) forget(file string, s *logStream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byFile[file] == s {
		delete(l.byFile, file)
	}
}

// run gives entries to the sink until there are no more.
func (l *logStreams) run(s *logStream, file string, sink LogSink) {
	defer close(s.done)
	defer l.forget(file, s)
	entries := logdriver.NewDecoder(s.fifo, 0)
	var e logdriver.Entry
	for {
		err := entries.Decode(&e)
		if err == nil {
			l.give(sink, file, &e)
			continue
		}
		if !errors.Is(err, io.EOF) { // io.ErrUnexpectedEOF, too: whoever wrote it died
			l.log.Error("entries of a container are lost from here on", "file", file, "err", err)
			// A full pipe would stop the container.
			_, _ = io.Copy(io.Discard, s.fifo) // there is no more to lose
		}
		break
	}
	s.err = errors.Join(closeSink(sink), s.fifo.Close())
}

// give is one call of Log; neither an error nor a panic ends the stream.
func (l *logStreams) give(sink LogSink, file string, e *logdriver.Entry) {
	defer func() {
		if p := recover(); p != nil {
			l.log.Error("the plugin panicked", "method", "LogSink.Log", "file", file, "panic", p)
		}
	}()
	if err := sink.Log(e); err != nil {
		l.log.Error("a log entry was not kept", "file", file, "err", err)
	}
}

func closeSink(sink LogSink) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the plugin panicked: %v", p)
		}
	}()
	return sink.Close()
}

// stop has what is in the FIFO read and closes the sink. A file that is not read
// is no error: the plugin may have been started again.
func (l *logStreams) stop(ctx context.Context, file string) error {
	l.mu.Lock()
	s := l.byFile[file]
	if s != nil {
		s.stopping = true
		if s.fifo != nil {
			s.fifo.drain()
		}
	}
	l.mu.Unlock()
	if s == nil {
		return nil
	}
	select {
	case <-s.done:
		return s.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close stops all.
func (l *logStreams) close(ctx context.Context) error {
	l.mu.Lock()
	l.closed = true
	var open []*logStream
	for _, s := range l.byFile {
		if s.fifo != nil {
			s.fifo.drain()
		}
		open = append(open, s)
	}
	l.mu.Unlock()
	var errs []error
	for _, s := range open {
		select {
		case <-s.done:
			errs = append(errs, s.err)
		case <-ctx.Done():
			return fmt.Errorf("close logs: %w", ctx.Err())
		}
	}
	return errors.Join(errs...)
}
