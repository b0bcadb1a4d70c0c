// Package logdriver calls logging plugins (manifest name LogDriver), and reads
// and writes the entries that travel through their FIFOs and streams, as
// docs/spec/capabilities.md §6 has them.
//
// It makes no FIFO and copies no output.
package logdriver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/outletd/outlet/capability"
)

// Name is what a logging plugin has in its manifest; Type is the same in the
// configuration of a managed plugin.
const (
	Name = "LogDriver"
	Type = "docker.logdriver/1.0"
)

// Methods, as they are called.
const (
	MethodStartLogging = "LogDriver.StartLogging"
	MethodStopLogging  = "LogDriver.StopLogging"
	MethodCapabilities = "LogDriver.Capabilities"
	MethodReadLogs     = "LogDriver.ReadLogs"
)

// Replayable says whether a method may be sent again although the plugin may
// have got it. Once a byte of a stream was read it is not.
func Replayable(method string) bool {
	return method == MethodCapabilities || method == MethodReadLogs
}

// Info is whose output it is. Only ContainerID is always there.
type Info struct {
	// Config are the log options that the user gave.
	Config              map[string]string
	ContainerID         string
	ContainerName       string
	ContainerEntrypoint string
	ContainerArgs       []string
	ContainerImageID    string
	ContainerImageName  string
	ContainerCreated    time.Time
	ContainerEnv        []string
	ContainerLabels     map[string]string
	LogPath             string
	DaemonName          string
}

// ReadConfig says which entries to read. Zero times are no limit.
type ReadConfig struct {
	Since, Until time.Time
	// Tail is how many of the last entries to read; -1 means all.
	Tail int
	// Follow waits for more at the end.
	Follow bool
}

// StartLoggingRequest asks a plugin to read entries from a FIFO.
type StartLoggingRequest struct {
	// File is the FIFO, as the plugin sees it.
	File string
	Info Info
}

// StopLoggingRequest ends what StartLogging began.
type StopLoggingRequest struct{ File string }

// ReadLogsRequest asks for entries.
type ReadLogsRequest struct {
	Info   Info
	Config ReadConfig
}

// Capabilities is what a plugin says of itself.
type Capabilities struct {
	// ReadLogs says that the method may be called.
	ReadLogs bool
}

type (
	response             struct{ capability.Refusal }
	capabilitiesResponse struct {
		Cap Capabilities
		capability.Refusal
	}
)

// Default limits of calls.
const (
	// DefaultTimeout is for StartLogging and Capabilities.
	DefaultTimeout = 2 * time.Minute
	// DefaultStopTimeout is for StopLogging, which holds a container's end up.
	DefaultStopTimeout = 10 * time.Second
)

// Options change a client. The zero value is good.
type Options struct {
	// Timeout bounds calls, StopTimeout StopLogging, in addition to their
	// contexts. Zero means the default, a negative value no limit.
	Timeout, StopTimeout time.Duration
	// MaxEntry is the longest entry to read, in bytes. Zero means MaxEntry.
	MaxEntry int
}

// Client calls one logging plugin. It is safe for concurrent use if its Streamer
// is, and has no state.
type Client struct {
	caller capability.Streamer
	o      Options
}

// New returns a client that calls through c.
func New(c capability.Streamer, o Options) *Client {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = DefaultStopTimeout
	}
	return &Client{caller: c, o: o}
}

// StartLogging has the plugin read entries from a FIFO. Not replayable.
func (c *Client) StartLogging(ctx context.Context, file string, info Info) error {
	return capability.Do(ctx, c.caller, c.o.Timeout, MethodStartLogging, StartLoggingRequest{file, info}, new(response))
}

// StopLogging has the plugin read what is left in the FIFO, and stop. Not
// replayable.
func (c *Client) StopLogging(ctx context.Context, file string) error {
	return capability.Do(ctx, c.caller, c.o.StopTimeout, MethodStopLogging, StopLoggingRequest{file}, new(response))
}

// Capabilities asks what the plugin can do. A plugin that does not know the call
// can do nothing. One that answers with another error can do nothing, either,
// and the answer is returned as warning, for the log. Only a call without an
// answer is an error.
func (c *Client) Capabilities(ctx context.Context) (found Capabilities, warning, err error) {
	var r capabilitiesResponse
	err = capability.Do(ctx, c.caller, c.o.Timeout, MethodCapabilities, nil, &r)
	if err == nil {
		return r.Cap, nil, nil
	}
	var e *capability.Error
	if !errors.As(err, &e) {
		return Capabilities{}, nil, err
	}
	switch e.Status {
	case http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return Capabilities{}, nil, nil
	}
	return Capabilities{}, err, nil
}

// ReadLogs reads entries back. The reader ends with ctx, and the caller closes
// it.
func (c *Client) ReadLogs(ctx context.Context, info Info, config ReadConfig) (*Reader, error) {
	s, err := c.caller.Stream(ctx, MethodReadLogs, ReadLogsRequest{info, config})
	if err != nil {
		return nil, capability.Refine(MethodReadLogs, err)
	}
	return &Reader{d: NewDecoder(s, c.o.MaxEntry), c: s, config: config}, nil
}

// Reader is a stream of entries.
type Reader struct {
	d      *Decoder
	c      io.Closer
	config ReadConfig
	ended  bool
}

// Next reads the next entry into e, whose Line is good until the next call. The
// error is io.EOF at the end. Entries before Since and those of no known source
// are passed over, and the first one after Until is the end, whatever the plugin
// thinks.
func (r *Reader) Next(e *Entry) error {
	for {
		if r.ended {
			return io.EOF
		}
		if err := r.d.Decode(e); err != nil {
			if errors.Is(err, io.EOF) {
				return io.EOF
			}
			return fmt.Errorf("%s: %w", MethodReadLogs, err)
		}
		at := time.Unix(0, e.TimeNano)
		switch {
		case !r.config.Until.IsZero() && at.After(r.config.Until):
			r.ended = true
		case !r.config.Since.IsZero() && at.Before(r.config.Since):
		case e.Source == SourceStdout || e.Source == SourceStderr:
			return nil
		}
	}
}

// Close ends the stream. A Next that waits returns.
func (r *Reader) Close() error { return r.c.Close() }
