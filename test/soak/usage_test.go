package soak

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

// usage is what a daemon without plugins takes.
type usage struct {
	goroutines  int
	descriptors int
	threads     int64
	resident    int64
	databases   int64    // bytes
	files       []string // all others, with their sizes, and directories
}

func (s *soak) usage() usage {
	s.t.Helper()
	u := usage{goroutines: s.d.Goroutines(), descriptors: s.d.Descriptors(), threads: s.d.Threads(), resident: s.d.RSS()}
	for _, dir := range []string{"lib", "run"} {
		err := filepath.WalkDir(filepath.Join(s.d.Dir(), dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			switch {
			case strings.HasSuffix(path, ".db"):
				u.databases += info.Size()
			case e.IsDir():
				u.files = append(u.files, path)
			default:
				u.files = append(u.files, fmt.Sprint(path, " ", info.Size()))
			}
			return nil
		})
		if err != nil {
			s.t.Fatal(err)
		}
	}
	return u
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %d threads, %d KiB, and %d files beside %d KiB of databases",
		u.goroutines, u.descriptors, u.threads, u.resident>>10, len(u.files), u.databases>>10)
}

// settledUsage is what the daemon takes once it does nothing any more.
func (s *soak) settledUsage() (u usage) {
	s.t.Helper()
	same := 0
	testutil.Eventually(s.t, patience, func() error {
		now := s.usage()
		if now.goroutines != u.goroutines || now.descriptors != u.descriptors {
			same = 0
		}
		u = now
		if same++; same < 20 {
			return fmt.Errorf("the daemon does not come to rest: it takes %v", now)
		}
		return nil
	})
	return u
}

// What may grow, by so much however long it runs: threads are made where
// several wait in the kernel at one time, and never ended; memory is Go's to
// give back; a database is as large as it once had to be.
const (
	moreThreads   = 8
	moreResident  = 16 << 20
	moreDatabases = 8 << 20
)

// checkUsage compares what the daemon takes now that all is removed with what it
// took when that was so before.
func (s *soak) checkUsage(before usage) {
	s.t.Helper()
	testutil.Eventually(s.t, patience, func() error {
		now := s.usage()
		if now.goroutines > before.goroutines || now.descriptors > before.descriptors ||
			now.threads > before.threads+moreThreads || now.resident > before.resident+moreResident ||
			now.databases > before.databases+moreDatabases {
			return fmt.Errorf("the daemon takes %v; it took %v", now, before)
		}
		if diff := cmp.Diff(before.files, now.files); diff != "" {
			return fmt.Errorf("files came and went (-before +now):\n%s", diff)
		}
		return nil
	})
	s.t.Logf("the daemon takes %v; it took %v; at most %d MiB", s.usage(), before, s.d.PeakRSS()>>20)
}

// tearDown removes everything and looks for what is left.
func (s *soak) tearDown() {
	s.t.Helper()
	s.checkPrinters()
	for name := range s.models {
		if err := s.undo(name); err != nil {
			s.t.Fatalf("tear down %s: %v", name, err)
		}
	}
	for _, p := range s.printers {
		if err := s.c.Remove(s.t.Context(), p.name, false); err != nil {
			s.t.Fatalf("tear down %s: %v", p.name, err)
		}
	}
	s.printers = nil
	s.checkAll()
	s.check() // waits for what is collected in the background
	if points, err := testutil.Mounts(s.d.Dir()); err != nil || len(points) > 0 {
		s.t.Errorf("mounts are left: %q, %v", points, err)
	}
	for _, pattern := range []string{
		"run/b/*", "run/p/*", "run/r/*", "lib/plugins/*", "lib/removing/*", "lib/tmp/*",
		"lib/content/blobs/*/*", "lib/content/ingest/*", "lib/snapshots/*/snapshots/*",
	} {
		if left, err := filepath.Glob(filepath.Join(s.d.Dir(), pattern)); err != nil || len(left) > 0 {
			s.t.Errorf("left: %q, %v", left, err)
		}
	}
	s.checkProcesses()
	if s.t.Failed() {
		s.t.FailNow()
	}
}

// undo removes a plugin in all order.
func (s *soak) undo(name string) error {
	m := s.models[name]
	if !m.enabled && m.volume {
		if err := s.enable(name); err != nil {
			return err
		}
	}
	if m.mounted != "" {
		if err := s.unmount(name); err != nil {
			return err
		}
	}
	if m.volume {
		if err := s.volumeRemove(name); err != nil {
			return err
		}
	}
	if m.enabled {
		if err := s.disable(name); err != nil {
			return err
		}
	}
	return s.remove(name)
}

// checkProcesses looks for processes and cgroups of plugins that are gone, and
// for children of the daemon, which inherits what loses its parent. What has
// ended is there until the daemon comes to reap it.
func (s *soak) checkProcesses() {
	s.t.Helper()
	cgroups, err := filepath.Glob("/sys/fs/cgroup/*/outlet/*")
	more, err2 := filepath.Glob("/sys/fs/cgroup/outlet/*")
	if err != nil || err2 != nil {
		s.t.Fatal(err, err2)
	}
	for _, dir := range append(cgroups, more...) {
		if s.ids[filepath.Base(dir)] {
			s.t.Errorf("a cgroup is left: %s", dir)
		}
	}
	testutil.Eventually(s.t, patience, s.processes)
}

// processes is an error that names the processes that are left, if any are.
func (s *soak) processes() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == s.d.PID() || pid == os.Getpid() {
			continue
		}
		if why := s.belongs(pid); why != "" {
			args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may have ended
			errs = append(errs, fmt.Errorf("process %d is left, %s: %q", pid, why, args))
		}
	}
	return errors.Join(errs...)
}

// belongs says why a process is ours, "" if it is not, or has ended.
func (s *soak) belongs(pid int) string {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return ""
	}
	if slices.Contains(strings.Split(string(status), "\n"), fmt.Sprintf("PPid:\t%d", s.d.PID())) {
		return "a child of the daemon"
	}
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(groups)) {
		if id := filepath.Base(strings.TrimSpace(line)); outlet.IsID(id) && s.ids[id] {
			return "in the cgroup of a plugin"
		}
	}
	return ""
}
