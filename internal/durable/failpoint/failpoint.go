// Package failpoint is how a test speaks to a process that was built with the
// tag failpoints (see package durable): the orders, the answers, and the names
// in the environment. It is no part of what is shipped, and it has no failpoints
// itself.
package failpoint

import (
	"bufio"
	"encoding/json"
	"errors"
	"net"
	"time"
)

// The environment of a process with failpoints.
const (
	// EnvControl names the unix socket on which the process takes orders;
	// without it nothing is counted.
	EnvControl = "OUTLET_FAILPOINTS"
	// EnvOrder is an [Order] that the process begins with.
	EnvOrder = "OUTLET_FAILPOINT_ORDER"
	// EnvMutant takes things out of the program: a list, separated by spaces,
	// of "op:site" as in [Point], of which the call is left out and counts as
	// done. "sync:database" are the syncs of the database.
	EnvMutant = "OUTLET_MUTANT"
	// EnvSyncfs has syncfs told to the file system itself, one that the kernel
	// does not tell: by setting the extended attribute [SyncfsAttr].
	EnvSyncfs = "OUTLET_SYNCFS_ATTR"
	// SyncfsAttr is set on a file or directory instead of calling syncfs.
	SyncfsAttr = "user.outlet.syncfs"
)

// Point is a call that was made.
type Point struct {
	Op, Site, Subject string
	Took              time.Duration
}

// Order is what the process is told.
type Order struct {
	// Do is "reset" (forget points and plans), "arm" (reset, and do Act at
	// point N), "look", or "go" (let what was stopped go on).
	Do string
	N  int // from 1
	// Act is "before", "after" (end the process with SIGKILL before or after
	// the call), "during" (Delay after it began), "fail" (return Errno instead
	// of calling), "stop" (wait before the call for "go").
	Act   string
	Delay time.Duration
	Errno int
}

// State is the answer to an [Order]: what was until then.
type State struct {
	Points  []Point
	Reached bool // the armed point
	Stopped bool // and the process waits there
	Busy    int  // how many calls are under way
	Err     string
}

// Send gives the process behind the socket an order.
func Send(socket string, o Order) (State, error) {
	c, err := net.Dial("unix", socket) //nolint:noctx // a test's, on this machine
	if err != nil {
		return State{}, err
	}
	defer c.Close()
	if err := json.NewEncoder(c).Encode(o); err != nil {
		return State{}, err
	}
	var st State
	if err := json.NewDecoder(bufio.NewReader(c)).Decode(&st); err != nil {
		return State{}, err
	}
	if st.Err != "" {
		return st, errors.New(st.Err)
	}
	return st, nil
}
