package reap

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// looks is how often a child must have been found ended and unclaimed before it
// is reaped. The clock alone is not enough: if this process was stopped for a
// while, a look and somebody's wait become due together.
const looks = 3

// orphans is what Run remembers between two looks.
type orphans struct {
	reaper *Reaper
	seen   map[Identity]sighting
}

type sighting struct {
	first time.Time
	count int
}

// delay is the time until the next look.
func (o *orphans) delay() time.Duration {
	if len(o.seen) == 0 {
		return min(100*time.Millisecond, o.reaper.grace/looks)
	}
	return o.reaper.grace / looks
}

// sweep looks at all children once. It reports whether it must look again.
func (o *orphans) sweep(now time.Time) (again bool) {
	pids, err := children()
	if err != nil {
		o.reaper.log.Warn("list child processes", "error", err)
		return len(o.seen) > 0
	}
	before := o.seen
	o.seen = make(map[Identity]sighting)
	for _, pid := range pids {
		if o.reaper.busy(pid) {
			continue
		}
		st, err := ReadStat(pid)
		if err != nil || st.State != 'Z' {
			continue
		}
		id := Identity{PID: pid, Start: st.Start}
		s, known := before[id]
		if !known {
			s.first = now
		}
		s.count++
		if s.count < looks || now.Sub(s.first) < o.reaper.grace/2 || !o.reap(pid) {
			o.seen[id] = s
		}
	}
	return len(o.seen) > 0
}

// reap takes the exit status of an orphan, unless somebody began to wait for it
// or starts are under way.
func (o *orphans) reap(pid int) bool {
	r := o.reaper
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.holds > 0 || r.claimed[pid] > 0 {
		return false
	}
	var status unix.WaitStatus
	got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
	if err != nil && !errors.Is(err, unix.ECHILD) {
		r.log.Warn("reap an orphan", "pid", pid, "error", err)
		return false
	}
	if got == pid {
		r.log.Debug("orphan ended", "pid", pid, "status", int(status))
	}
	return true
}

// children lists the pids of this process' children.
func children() ([]int, error) {
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, t := range tasks {
		b, err := os.ReadFile(filepath.Join("/proc/self/task", t.Name(), "children"))
		if errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat("/proc/self/task/" + strconv.Itoa(os.Getpid()) + "/children"); err != nil {
				return childrenByParent()
			}
			continue // the thread ended
		}
		if err != nil {
			return nil, err
		}
		for f := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(f); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids, nil
}

// childrenByParent is for kernels without CONFIG_PROC_CHILDREN.
func childrenByParent() ([]int, error) {
	all, err := Processes()
	if err != nil {
		return nil, err
	}
	self := os.Getpid()
	var pids []int
	for pid, st := range all {
		if st.Parent == self {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}
