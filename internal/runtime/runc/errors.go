package runc

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// maxLog bounds what is read of runc's log.
const maxLog = 1 << 20

// explain makes the error of a failed runc command from the last error in its
// log; cause is what go-runc made of it.
func explain(op, id, log string, cause error) error {
	msg := lastError(log)
	if msg == "" {
		msg = cause.Error()
		if pe := (*fs.PathError)(nil); errors.As(cause, &pe) && pe.Op == "fork/exec" || errors.Is(cause, exec.ErrNotFound) {
			// It is not the plugin's program that is not there.
			return outlet.Errorf(errdefs.ErrUnavailable, "runc: %s %s: the runtime itself cannot be run: %s", op, id, msg)
		}
	}
	if class := classOf(msg); class != nil {
		return outlet.Errorf(class, "runc: %s %s: %s", op, id, msg)
	}
	return outlet.Errorf(errdefs.ErrInternal, "runc: %s %s: %s", op, id, msg)
}

// lastError returns the message of the last error in a log of JSON lines.
func lastError(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	msg := ""
	lines := bufio.NewScanner(io.LimitReader(f, maxLog))
	lines.Buffer(nil, maxLog)
	for lines.Scan() {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(lines.Bytes(), &entry) != nil {
			continue
		}
		if entry.Level == "error" || entry.Level == "fatal" {
			msg = strings.TrimSpace(entry.Msg)
		}
	}
	return msg
}

// classOf sorts runc's messages by what has to change for the start to succeed.
// The texts are those of the kernel and of Go and have not changed in years; an
// unknown one only loses its class.
func classOf(msg string) error {
	has := func(texts ...string) bool {
		for _, t := range texts {
			if strings.Contains(msg, t) {
				return true
			}
		}
		return false
	}
	switch {
	case has("exec format error", "executable file not found", "no such file or directory", "not a directory", "is a directory"):
		return errdefs.ErrInvalidArgument
	case has("permission denied", "operation not permitted"):
		return errdefs.ErrPermissionDenied
	case has("no space left on device", "disk quota exceeded", "input/output error", "cannot allocate memory",
		"too many open files", "resource temporarily unavailable"):
		return errdefs.ErrUnavailable
	case has("container not running", "cannot exec in a stopped container", "container is not running"):
		return errdefs.ErrConflict
	}
	return nil
}
