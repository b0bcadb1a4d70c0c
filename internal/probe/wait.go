package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Seen is what was found in the place of the socket.
type Seen int

// What may be in the place of the socket.
const (
	SeenNoDir   Seen = iota // not even the directory
	SeenNone                // nothing of that name
	SeenNoSock              // something that is no socket
	SeenLink                // a symbolic link
	SeenSocket              // a socket that accepts nothing
	SeenUnknown             // it could not be looked
)

// NotReadyError says that the socket did not accept in time, and what was there
// instead.
type NotReadyError struct {
	Target Target
	// Seen is what is called Target.Name.
	Seen Seen
	// Others are the names of other sockets in the directory, sorted, at most
	// 16.
	Others []string
	// Dial is why connecting to the socket failed, if it was tried, or why it
	// could not be looked.
	Dial error
	// Cause is why the wait ended: the cause of the context.
	Cause error
}

// Error says what was seen.
func (e *NotReadyError) Error() string {
	var text string
	switch e.Seen {
	case SeenNoDir:
		return fmt.Sprintf("the directory %s for its socket does not exist", e.Target.Dir)
	case SeenNone:
		text = fmt.Sprintf("it never listened on its socket %s", e.Target.Name)
	case SeenNoSock:
		text = fmt.Sprintf("%s is a file, not a socket", e.Target.Name)
	case SeenLink:
		text = fmt.Sprintf("%s is a symbolic link, not a socket", e.Target.Name)
	case SeenSocket:
		text = fmt.Sprintf("its socket %s is there but accepts no connection", e.Target.Name)
		if e.Dial != nil {
			text += ": " + errorOf(e.Dial).Error()
		}
	case SeenUnknown:
		return fmt.Sprintf("whether it listens on its socket %s cannot be seen: %v", e.Target.Name, errorOf(e.Dial))
	}
	if len(e.Others) > 0 {
		quoted := make([]string, len(e.Others))
		for i, name := range e.Others {
			quoted[i] = printable(name)
		}
		text += "; it listens on " + strings.Join(quoted, ", ") + " instead"
	}
	return text
}

// Unwrap returns the cause and the error of dialling.
func (e *NotReadyError) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Cause, e.Dial} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// printable returns the name of a file as it can be shown.
func printable(name string) string {
	if quoted := fmt.Sprintf("%q", name); quoted != `"`+name+`"` {
		return quoted
	}
	return name
}

// errorOf returns the error of the kernel in err, or err.
func errorOf(err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// The intervals at which is looked again, each half as long again as the one
// before: events tell when a file appears, but nothing tells when a process
// begins to accept on it. Mostly that is within microseconds, so the first looks
// after an event follow each other closely.
const (
	firstInterval = 10 * time.Millisecond
	eventInterval = 200 * time.Microsecond
	maxInterval   = 250 * time.Millisecond
)

func (p *Prober) waitSocket(ctx context.Context, t Target, exited <-chan struct{}) error {
	if t.Name == "" || t.Name != filepath.Base(t.Name) || !filepath.IsAbs(t.Dir) {
		return fmt.Errorf("wait for socket %q in %q: not a name in an absolute path", t.Name, t.Dir)
	}
	watch := p.w.newWatch()
	defer watch.close()
	interval := firstInterval
	timer := time.NewTimer(interval)
	defer timer.Stop()
	var refused error // why the last attempt failed
	for {
		// Watch first, then look: what appears in between is not missed.
		watch.update(t.Dir)
		err := try(ctx, t)
		if err == nil {
			return nil
		}
		if refused == nil || !over(ctx) { // else it only says that ctx ended
			refused = err
		}
		timer.Reset(interval)
		select {
		case <-exited:
			return ErrExited
		case <-ctx.Done():
			select {
			case <-exited: // that is the better reason
				return ErrExited
			default:
			}
			return look(t, refused, context.Cause(ctx))
		case <-watch.events:
			interval = eventInterval
		case <-timer.C:
			interval = min(interval*3/2, maxInterval)
		}
	}
}

// over says whether ctx has ended or is about to: a dial knows of its deadline a
// moment before it does.
func over(ctx context.Context) bool {
	end, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(end)
}

// dialLimit bounds one attempt: a socket whose queue is full makes connecting
// wait.
const dialLimit = time.Second

// try connects once.
func try(ctx context.Context, t Target) error {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	conn, err := dial(ctx, filepath.Join(t.Dir, t.Name))
	if err != nil {
		return err
	}
	return conn.Close()
}

// look finds out what is in the place of a socket that did not accept.
func look(t Target, dialErr, cause error) *NotReadyError {
	e := &NotReadyError{Target: t, Seen: SeenNone, Cause: cause}
	dir, err := os.Open(t.Dir)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			e.Seen = SeenNoDir
		} else {
			e.Seen, e.Dial = SeenUnknown, err
		}
		return e
	}
	defer dir.Close()
	// A plugin may fill its directory: what is beyond is not looked at.
	entries, _ := dir.ReadDir(maxEntries)
	for _, entry := range entries {
		isSocket := entry.Type()&fs.ModeSocket != 0
		switch {
		case entry.Name() != t.Name:
			if isSocket {
				e.Others = append(e.Others, entry.Name())
			}
		case isSocket:
			e.Seen, e.Dial = SeenSocket, dialErr
		case entry.Type()&fs.ModeSymlink != 0:
			e.Seen = SeenLink
		default:
			e.Seen = SeenNoSock
		}
	}
	slices.Sort(e.Others)
	e.Others = e.Others[:min(len(e.Others), maxOthers)]
	return e
}

// What look reads and tells at most.
const (
	maxEntries = 4096
	maxOthers  = 16
)
