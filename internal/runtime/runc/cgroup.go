package runc

import (
	"bufio"
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/runtime"
)

// cgroups are the directories of one container's cgroups by hierarchy: on
// cgroup v2 one under "", on v1 one for each controller, on hybrid hosts both.
type cgroups map[string]string

// cgroupDirs works out where the cgroup path lies in each hierarchy of this
// host; only directories that exist are returned.
func cgroupDirs(path string) map[string]string {
	mounts, err := mountinfo.GetMounts(mountinfo.FSTypeFilter("cgroup", "cgroup2"))
	if err != nil {
		return nil
	}
	dirs := make(map[string]string)
	for _, m := range mounts {
		dir := filepath.Join(m.Mountpoint, path)
		if _, err := os.Stat(dir); err != nil {
			continue
		}
		if m.FSType == "cgroup2" {
			dirs[""] = dir
			continue
		}
		for o := range strings.SplitSeq(m.VFSOptions, ",") {
			if o != "rw" && o != "ro" && o != "xattr" && !strings.HasPrefix(o, "release_agent=") {
				dirs[o] = dir
			}
		}
	}
	return dirs
}

// exists reports whether there is a cgroup that tells the container's processes.
func (c cgroups) exists() bool {
	for _, dir := range c.deciding() {
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err == nil {
			return true
		}
	}
	return false
}

// deciding are the directories whose members are the container's processes: the
// unified one and one of v1. All the others have the same members, which
// removing them proves.
func (c cgroups) deciding() []string {
	var dirs []string
	if dir := c[""]; dir != "" {
		dirs = append(dirs, dir)
	}
	for _, name := range []string{"freezer", "devices", "pids", "memory", "name=systemd", "cpu"} {
		if dir := c[name]; dir != "" {
			return append(dirs, dir)
		}
	}
	return dirs
}

// processes returns the pids in the container's cgroups and those below them.
func (c cgroups) processes() ([]int, error) {
	seen := make(map[int]struct{})
	var pids []int
	for _, dir := range c.deciding() {
		err := walkCgroup(dir, func(d string) error {
			b, err := os.ReadFile(filepath.Join(d, "cgroup.procs"))
			if err != nil {
				return ignoreGone(err)
			}
			for f := range bytes.FieldsSeq(b) {
				pid, err := strconv.Atoi(string(f))
				if _, known := seen[pid]; err != nil || known || pid == 0 {
					continue // 0: a process of a pid namespace that is not below ours
				}
				seen[pid] = struct{}{}
				pids = append(pids, pid)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// killAll sends SIGKILL to every process in the cgroups: by the kernel where it
// can (cgroup.kill, Linux 5.14), else one by one. try counts from 0; later ones
// assume that the kernel's way did not reach all, and that the processes fork
// faster than they are killed, and freeze them meanwhile.
func (c cgroups) killAll(pids []int, try int) error {
	if dir := c[""]; dir != "" {
		err := durable.WriteFile(filepath.Join(dir, "cgroup.kill"), []byte("1"), 0)
		if err == nil && (len(c) == 1 || try == 0) {
			return nil
		}
	}
	if try > 2 {
		thaw := c.freeze()
		defer thaw()
		if again, err := c.processes(); err == nil {
			pids = again
		}
	}
	var errs []error
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// freeze asks the kernel to stop all processes of the cgroups, as far as it can
// at once, and returns what undoes it.
func (c cgroups) freeze() (thaw func()) {
	file, on, off := filepath.Join(c["freezer"], "freezer.state"), "FROZEN", "THAWED"
	if c["freezer"] == "" {
		if c[""] == "" {
			return func() {}
		}
		file, on, off = filepath.Join(c[""], "cgroup.freeze"), "1", "0"
	}
	if err := durable.WriteFile(file, []byte(on), 0); err != nil {
		return func() {} // then they are killed as they run
	}
	return func() { _ = durable.WriteFile(file, []byte(off), 0) }
}

// remove removes the cgroups and those below them. unix.EBUSY: there are
// processes in one.
func (c cgroups) remove() error {
	var errs []error
	for _, dir := range c {
		var dirs []string
		if err := walkCgroup(dir, func(d string) error { dirs = append(dirs, d); return nil }); err != nil {
			errs = append(errs, err)
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := removeCgroup(dirs[i]); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// stats reads what the container uses.
func (c cgroups) stats() runtime.Stats {
	s := runtime.Stats{At: time.Now(), CPU: -1, MemoryBytes: -1, PIDs: -1}
	if n, ok := c.number("cpuacct", "cpuacct.usage"); ok {
		s.CPU = time.Duration(n)
	} else if n, ok := c.field("", "cpu.stat", "usage_usec"); ok {
		s.CPU = time.Duration(n) * time.Microsecond
	}
	if n, ok := c.number("memory", "memory.usage_in_bytes"); ok {
		s.MemoryBytes = n
	} else if n, ok := c.number("", "memory.current"); ok {
		s.MemoryBytes = n
	}
	if n, ok := c.number("pids", "pids.current"); ok {
		s.PIDs = n
	} else if n, ok := c.number("", "pids.current"); ok {
		s.PIDs = n
	} else if pids, err := c.processes(); err == nil && c.exists() {
		s.PIDs = int64(len(pids))
	}
	return s
}

// oomKilled reports whether the kernel ended a process of the container for want
// of memory.
func (c cgroups) oomKilled() bool {
	if n, ok := c.field("memory", "memory.oom_control", "oom_kill"); ok {
		return n > 0
	}
	n, ok := c.field("", "memory.events", "oom_kill")
	return ok && n > 0
}

func (c cgroups) number(hierarchy, file string) (int64, bool) {
	b, ok := c.read(hierarchy, file)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseInt(string(bytes.TrimSpace(b)), 10, 64)
	return n, err == nil
}

func (c cgroups) field(hierarchy, file, name string) (int64, bool) {
	b, ok := c.read(hierarchy, file)
	if !ok {
		return 0, false
	}
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), " ")
		if key == name {
			n, err := strconv.ParseInt(value, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

func (c cgroups) read(hierarchy, file string) ([]byte, bool) {
	if c[hierarchy] == "" {
		return nil, false
	}
	b, err := os.ReadFile(filepath.Join(c[hierarchy], file))
	return b, err == nil
}

// walkCgroup calls f for dir and every cgroup below it, parents first. What
// disappears meanwhile is no error.
func walkCgroup(dir string, f func(string) error) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return ignoreGone(err)
		}
		if !d.IsDir() {
			return nil
		}
		return f(path)
	})
}

func removeCgroup(dir string) error {
	if err := durable.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
		return &fs.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}

// removeEmptyCgroup is removeCgroup for a cgroup that others may use.
func removeEmptyCgroup(dir string) error {
	if err := removeCgroup(dir); err != nil && !errors.Is(err, unix.EBUSY) {
		return err
	}
	return nil
}

func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}
