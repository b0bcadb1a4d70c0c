//go:build failpoints

package durable

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable/failpoint"
)

// Failpoints says whether this build has failpoints.
const Failpoints = true

// control is the state of the points of this process. It is the one global
// thing in this package, and not part of what is shipped.
type control struct {
	mutants  []string
	mu       sync.Mutex
	counting bool
	points   []failpoint.Point
	busy     int
	order    *failpoint.Order
	reached  bool
	stopped  chan struct{} // closed by "go"; nil if nothing waits
}

var theControl = sync.OnceValue(func() *control {
	c := &control{mutants: strings.Fields(os.Getenv(failpoint.EnvMutant))}
	socket := os.Getenv(failpoint.EnvControl)
	if socket == "" {
		return c
	}
	_ = os.Remove(socket)
	l, err := net.Listen("unix", socket) //nolint:noctx // as long as the process
	if err != nil {
		panic(err)
	}
	c.counting = true
	if first := os.Getenv(failpoint.EnvOrder); first != "" {
		var o failpoint.Order
		if err := json.Unmarshal([]byte(first), &o); err != nil {
			panic(err)
		}
		c.obey(o)
	}
	go c.serve(l)
	return c
})

func (c *control) serve(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go c.talk(conn)
	}
}

func (c *control) talk(conn net.Conn) {
	defer conn.Close()
	enc := json.NewEncoder(conn)
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		var o failpoint.Order
		err := json.Unmarshal(lines.Bytes(), &o)
		st := c.obey(o)
		if err != nil {
			st.Err = err.Error()
		}
		if enc.Encode(st) != nil {
			return
		}
	}
}

func (c *control) obey(o failpoint.Order) failpoint.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := failpoint.State{Points: slices.Clone(c.points), Reached: c.reached, Stopped: c.stopped != nil, Busy: c.busy}
	switch o.Do {
	case "arm", "reset":
		c.points, c.order, c.reached = nil, nil, false
		if o.Do == "arm" {
			c.order = &o
		}
	case "look":
	case "go":
		if c.stopped != nil {
			close(c.stopped)
			c.stopped = nil
		}
	default:
		st.Err = fmt.Sprintf("no such order: %q", o.Do)
	}
	return st
}

// between are functions that only pass a call on to this package.
var between = []string{"metadata.(*DB).Update", "metadata.update"}

// caller is the function outside this package that called.
func caller() string {
	var pcs [16]uintptr
	frames := runtime.CallersFrames(pcs[:runtime.Callers(3, pcs[:])])
	for {
		f, more := frames.Next()
		name := path.Base(f.Function)
		if !strings.HasPrefix(name, "durable.") && !slices.Contains(between, name) {
			// Closures are of the function around them.
			name, _, _ = strings.Cut(name, ".func")
			return name
		}
		if !more {
			return name
		}
	}
}

// enter counts a point and returns what is to happen at it.
func (c *control) enter(op, site, subject string) (int, *failpoint.Order, chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.points = append(c.points, failpoint.Point{Op: op, Site: site, Subject: subject})
	n := len(c.points)
	if c.order == nil || c.order.N != n {
		return n, nil, nil
	}
	c.reached = true
	if c.order.Act == "stop" {
		c.stopped = make(chan struct{})
		return n, c.order, c.stopped
	}
	return n, c.order, nil
}

// begin and took enclose the call itself.
func (c *control) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy++
}

func (c *control) took(n int, d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy--
	if n <= len(c.points) { // not reset meanwhile
		c.points[n-1].Took = d
	}
}

func (c *control) mutant(what ...string) bool {
	return len(c.mutants) > 0 && slices.ContainsFunc(what, func(w string) bool { return slices.Contains(c.mutants, w) })
}

func at(op, subject string, f func() error) error {
	c := theControl()
	if !c.counting && len(c.mutants) == 0 {
		return f()
	}
	site := caller()
	if c.mutant(op + ":" + site) {
		return nil
	}
	if !c.counting {
		return f()
	}
	n, o, stopped := c.enter(op, site, subject)
	if o != nil {
		switch o.Act {
		case "before":
			die()
		case "during":
			time.AfterFunc(o.Delay, die)
		case "fail":
			return &os.PathError{Op: op, Path: subject, Err: errors.Join(errInjected, unix.Errno(o.Errno))}
		case "stop":
			<-stopped
		}
	}
	c.begin()
	began := time.Now()
	err := f()
	c.took(n, time.Since(began))
	if o != nil && o.Act == "after" {
		die()
	}
	return err
}

var errInjected = errors.New("injected")

func die() {
	_ = unix.Kill(os.Getpid(), unix.SIGKILL)
	select {} // it need not arrive at once
}

func syncfs(fd int) error {
	if os.Getenv(failpoint.EnvSyncfs) == "" {
		return unix.Syncfs(fd)
	}
	return unix.Fsetxattr(fd, failpoint.SyncfsAttr, []byte("1"), 0)
}

func leased[T any](with, without T) T {
	if theControl().mutant("lease:" + caller()) {
		return without
	}
	return with
}

func unsynced() bool { return theControl().mutant("sync:database") }
