package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// lines calls each with every line of a stream of JSON values until the stream
// ends. A line that is an error, which is how a stream that has begun reports
// one, ends it as an [*Error].
func lines(ctx context.Context, r io.Reader, each func([]byte) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(in)
		if len(line) > 0 {
			if serr := streamError(line); serr != nil {
				return serr
			}
			if cerr := each(line); cerr != nil {
				return cerr
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF):
			return nil
		default:
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return fmt.Errorf("read the daemon's answer: %w", err)
		}
	}
}

// readLine gives the next line without its end, at most maxLine bytes of it.
func readLine(in *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, outlet.Errorf(errdefs.ErrResourceExhausted, "a line of the daemon's answer is longer than %d MiB", maxLine>>20)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
			line = line[:len(line)-1]
		}
		return line, err
	}
}

// streamError gives the error a line of a stream carries, nil if it carries
// none.
func streamError(line []byte) error {
	var m struct {
		Error       *string `json:"error"`
		ErrorDetail *struct {
			Message string `json:"message"`
			Code    int    `json:"code"`
		} `json:"errorDetail"`
	}
	if json.Unmarshal(line, &m) != nil || (m.Error == nil && m.ErrorDetail == nil) {
		return nil //nolint:nilerr // it is no error, whatever else it is
	}
	e := &Error{}
	if m.Error != nil {
		e.Message = *m.Error
	}
	if m.ErrorDetail != nil {
		e.Status = m.ErrorDetail.Code
		if m.ErrorDetail.Message != "" {
			e.Message = m.ErrorDetail.Message
		}
	}
	if e.Message == "" {
		e.Message = "the daemon reported an error without a reason"
	}
	return e
}
