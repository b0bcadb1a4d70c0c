package soak

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// startPrinters makes plugins that print 1, 2, 3 and so on from each of their
// starts, and stay enabled.
func (s *soak) startPrinters() {
	s.t.Helper()
	dir := daemontest.Context(s.t, daemontest.PluginConfig("-listen", daemontest.PluginListen, "-print", "numbers"),
		testutil.Build(s.t, "./test/hostile/plugin"))
	for i := range 3 {
		name := fmt.Sprintf("printer%d", i)
		f, err := os.Open(daemontest.Tar(s.t, dir))
		if err != nil {
			s.t.Fatal(err)
		}
		p, _, err := s.c.Create(s.t.Context(), name, f, outlet.CreateOptions{})
		if err = errors.Join(err, f.Close()); err == nil {
			err = s.c.Enable(s.t.Context(), name, outlet.EnableOptions{})
		}
		if err != nil {
			s.t.Fatal(err)
		}
		s.printers = append(s.printers, name)
		s.ids[p.ID] = true
	}
}

// killPrinter kills one, if it runs: after a few kills there are delays.
func (s *soak) killPrinter() error {
	p, err := s.c.Inspect(s.t.Context(), s.printers[s.r.IntN(len(s.printers))])
	if err != nil || p.Status.PID == 0 {
		return err
	}
	if err := syscall.Kill(p.Status.PID, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// checkPrinters reads all that was printed: every number follows the one before
// it, or is the first of a start. Whoever died meanwhile, plugin or daemon, no
// line is missing and none is there twice.
func (s *soak) checkPrinters() {
	s.t.Helper()
	for _, name := range s.printers {
		last, lines, starts := 0, 0, 0
		err := s.c.Logs(s.t.Context(), name, outlet.LogOptions{Tail: -1}, func(e outlet.LogEntry) error {
			if e.Stream != "stdout" {
				return nil
			}
			n, err := strconv.Atoi(e.Line)
			if err != nil {
				return fmt.Errorf("line %q: %w", e.Line, err)
			}
			if n != last+1 && n != 1 && lines > 0 {
				return fmt.Errorf("%d follows %d", n, last)
			}
			if n == 1 {
				starts++
			}
			last = n
			lines++
			return nil
		})
		if err != nil || lines == 0 {
			s.t.Errorf("the log of %s: %v after %d lines", name, err, lines)
		}
		s.t.Logf("%s printed %d lines in %d starts", name, lines, starts)
	}
}

// checkUsage compares what the daemon takes now that all is removed with what it
// took in the beginning.
func (s *soak) checkUsage() {
	s.t.Helper()
	testutil.Eventually(s.t, 20*time.Second, func() error {
		now := s.usage()
		// Which of the kernel's queues are open, and how many threads Go made,
		// depends on what ran side by side; memory on when Go gives it back.
		if now.descriptors > s.before.descriptors+4 || now.threads > s.before.threads+8 || now.resident > s.before.resident+40<<20 {
			return fmt.Errorf("the daemon takes %+v, took %+v", now, s.before)
		}
		return nil
	})
	s.t.Logf("the daemon takes %+v, took %+v in the beginning; at most %d MiB", s.usage(), s.before, s.d.PeakRSS()>>20)
}
