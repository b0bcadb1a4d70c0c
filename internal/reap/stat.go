package reap

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet"
)

// Stat is what /proc/PID/stat tells of a process.
type Stat struct {
	State   byte   // 'R', 'S', 'Z', …
	Parent  int    // pid of the parent
	Session int    // pid of the session's leader
	Start   uint64 // ticks of the clock since boot
	// CPU is the time the process and those children it waited for have used.
	CPU time.Duration
	// Memory is the resident memory in bytes.
	Memory int64
	// Status is the wait status of a zombie, if we may see it.
	Status unix.WaitStatus
}

// tick is the unit of times in /proc: USER_HZ is 100 on every architecture Go
// supports.
const tick = 10 * time.Millisecond

// ReadStat reads /proc/PID/stat. errdefs.ErrNotFound: there is no such process.
func ReadStat(pid int) (Stat, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return Stat{}, outlet.Errorf(errdefs.ErrNotFound, "no process %d", pid)
	}
	if err != nil {
		return Stat{}, err
	}
	st, err := parseStat(b)
	if err != nil {
		return Stat{}, fmt.Errorf("/proc/%d/stat: %w", pid, err)
	}
	return st, nil
}

// parseStat reads the line of proc_pid_stat(5). The second field is the name of
// the program in parentheses and may hold anything, parentheses and line ends
// too: what follows begins after the last one.
func parseStat(b []byte) (Stat, error) {
	i := bytes.LastIndexByte(b, ')')
	if i < 0 {
		return Stat{}, errors.New("no program name")
	}
	f := strings.Fields(string(b[i+1:]))
	// f[0] is field 3 of the manual's count.
	const first, need = 3, 52
	if len(f) < need-first+1 || len(f[0]) != 1 {
		return Stat{}, fmt.Errorf("%d fields, want at least %d", len(f)+first-1, need)
	}
	var firstErr error
	number := func(field int) int64 {
		n, err := strconv.ParseInt(f[field-first], 10, 64)
		if err != nil && firstErr == nil {
			firstErr = fmt.Errorf("field %d: %w", field, err)
		}
		return n
	}
	start, err := strconv.ParseUint(f[22-first], 10, 64)
	if err != nil {
		firstErr = fmt.Errorf("field 22: %w", err)
	}
	st := Stat{
		State:   f[0][0],
		Parent:  int(number(4)),
		Session: int(number(6)),
		Start:   start,
		CPU:     time.Duration(number(14)+number(15)+number(16)+number(17)) * tick,
		Memory:  number(24) * int64(os.Getpagesize()),
		Status:  unix.WaitStatus(number(52)),
	}
	return st, firstErr
}

// Processes returns the processes that /proc shows, by pid. Those that end
// meanwhile are left out.
func Processes() (map[int]Stat, error) {
	d, err := os.Open("/proc")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	all := make(map[int]Stat)
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if st, err := ReadStat(pid); err == nil {
			all[pid] = st
		}
	}
	return all, nil
}
