package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/outletd/outlet/capability/logdriver"
	"github.com/outletd/outlet/sdk"
)

// record is a line of a file.
type record struct {
	Time    time.Time `json:"time"`
	Source  string    `json:"source"`
	Line    []byte    `json:"line"`              // base64: lines need not be text
	Partial bool      `json:"partial,omitempty"` // a part of a line that was split
	Last    bool      `json:"last,omitempty"`    // its last one
	ID      string    `json:"id,omitempty"`
	Ordinal int32     `json:"ordinal,omitempty"`
}

// driver writes a file for each container.
type driver struct {
	root *os.Root

	mu   sync.Mutex
	logs map[string]*written // by container, while it is written
}

// written is a file that is being written.
type written struct {
	writers int
	// changed is closed, and replaced, whenever something was written or the
	// writing ended.
	changed chan struct{}
}

func newDriver(dir string) (*driver, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	return &driver{root: root, logs: make(map[string]*written)}, err
}

// fileName is the name of a container's file. IDs are hexadecimal digits.
func fileName(id string) (string, error) {
	if id == "" || strings.Trim(id, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%q is no id of a container", id)
	}
	return id + ".jsonl", nil
}

// StartLogging opens the file of a container.
func (d *driver) StartLogging(_ context.Context, info logdriver.Info) (sdk.LogSink, error) {
	name, err := fileName(info.ContainerID)
	if err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.logs[info.ContainerID]
	if w == nil {
		w = &written{changed: make(chan struct{})}
		d.logs[info.ContainerID] = w
	}
	w.writers++
	return &sink{d: d, id: info.ContainerID, f: f}, nil
}

// sink is the writing end of a file.
type sink struct {
	d   *driver
	id  string
	f   *os.File
	buf []byte
}

func (s *sink) Log(e *logdriver.Entry) error {
	line, err := json.Marshal(record{
		Time: time.Unix(0, e.TimeNano).UTC(), Source: e.Source, Line: e.Line,
		Partial: e.Partial, Last: e.Metadata.Last, ID: e.Metadata.ID, Ordinal: e.Metadata.Ordinal,
	})
	if err != nil {
		return err
	}
	s.buf = append(append(s.buf[:0], line...), '\n')
	_, err = s.f.Write(s.buf)
	s.d.tell(s.id, 0)
	return err
}

func (s *sink) Close() error {
	err := s.f.Close()
	s.d.tell(s.id, -1)
	return err
}

// tell wakes whoever follows the file; writers are so many more.
func (d *driver) tell(id string, writers int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.logs[id]
	if w.writers += writers; w.writers == 0 {
		delete(d.logs, id)
	}
	close(w.changed)
	w.changed = make(chan struct{})
}

// change returns a channel that is closed at the next change of a file, or nil
// if nobody writes it.
func (d *driver) change(id string) <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w := d.logs[id]; w != nil {
		return w.changed
	}
	return nil
}

// ReadLogs reads a file back.
func (d *driver) ReadLogs(ctx context.Context, info logdriver.Info, c logdriver.ReadConfig, emit func(*logdriver.Entry) error) error {
	name, err := fileName(info.ContainerID)
	if err != nil {
		return err
	}
	f, err := d.root.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it has printed nothing
	}
	if err != nil {
		return err
	}
	defer f.Close()
	skip, err := linesBefore(f, c.Tail)
	if err != nil {
		return err
	}
	r := bufio.NewReader(f)
	var line []byte
	for n := 0; ; {
		change := d.change(info.ContainerID) // before reading, so that none is missed
		part, err := r.ReadBytes('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, io.EOF):
			if !c.Follow || change == nil {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-change:
			}
			continue
		case err != nil:
			return err
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		line = line[:0]
		if n++; n <= skip || !c.Since.IsZero() && rec.Time.Before(c.Since) {
			continue
		}
		if !c.Until.IsZero() && rec.Time.After(c.Until) {
			return nil
		}
		if err := emit(rec.entry()); err != nil {
			return err
		}
	}
}

func (r *record) entry() *logdriver.Entry {
	return &logdriver.Entry{
		Source: r.Source, TimeNano: r.Time.UnixNano(), Line: r.Line, Partial: r.Partial,
		Metadata: logdriver.PartialMetadata{Last: r.Last, ID: r.ID, Ordinal: r.Ordinal},
	}
}

// linesBefore is how many records come before the last tail lines, and goes back
// to the beginning of the file. A line that was split has several records.
func linesBefore(f *os.File, tail int) (int, error) {
	if tail < 0 {
		return 0, nil
	}
	var ends []int // numbers of records that end a line; only the last ones are kept
	n := 0
	r := bufio.NewReader(f)
	for {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		n++
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return 0, err
		}
		if !rec.Partial || rec.Last {
			ends = append(ends, n)
			ends = ends[max(0, len(ends)-tail-1):]
		}
	}
	_, err := f.Seek(0, io.SeekStart)
	switch {
	case tail == 0:
		return n, err
	case len(ends) <= tail:
		return 0, err
	}
	return ends[0], err
}
