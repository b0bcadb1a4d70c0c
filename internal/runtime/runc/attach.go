package runc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// attaching gets the kernel ready for processes being put into cgroups. The
// first in a while waits for all processors to have passed through the scheduler
// (cgroup_threadgroup_rwsem, an RCU grace period): some 12 ms, a third of a
// start. The next ones do not. So one that changes nothing, this process into
// the cgroup it is in, is made while runc is still on its way there.
type attaching struct {
	// controller is how /proc/self/cgroup calls the hierarchy, "" the unified one.
	controller string
	mount      string        // where it is; "" if there is none that can be used
	one        chan struct{} // holds a token while it is done: more do not help
}

// newAttaching finds a hierarchy in which this process may put itself where it
// is.
func newAttaching() attaching {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return attaching{}
	}
	for _, m := range mounts {
		var names []string
		if m.FSType == "cgroup" {
			names = strings.Split(m.VFSOptions, ",")
		} else {
			names = []string{""}
		}
		for _, name := range names {
			a := attaching{controller: name, mount: m.Mountpoint, one: make(chan struct{}, 1)}
			if procs, ok := a.procs(); ok && unix.Access(procs, unix.W_OK) == nil {
				return a
			}
		}
	}
	return attaching{}
}

// procs is the file of this process' cgroup; not ok if the hierarchy is not
// known.
func (a attaching) procs() (path string, ok bool) {
	raw, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(raw)) {
		_, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		names, dir, found := strings.Cut(rest, ":")
		if !found {
			continue
		}
		for name := range strings.SplitSeq(names, ",") {
			if name == a.controller {
				return filepath.Join(a.mount, dir, "cgroup.procs"), true
			}
		}
	}
	return "", false
}

// begin begins to get ready. The caller must call wait when it no longer matters.
func (a attaching) begin() (wait func()) {
	select {
	case a.one <- struct{}{}: // never if it is nil
	default:
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { <-a.one }()
		procs, ok := a.procs()
		if !ok {
			return
		}
		fd, err := unix.Open(procs, unix.O_WRONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		defer unix.Close(fd)                                     //nolint:errcheck // only a descriptor
		_, _ = unix.Write(fd, []byte(strconv.Itoa(os.Getpid()))) // without it things are slower, no more
	}()
	return func() { <-done }
}
