package soak

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
	"github.com/outletd/outlet/internal/testutil/daemontest"
)

// printer is a plugin that prints 1, 2, 3 and so on from each of its starts, and
// counts in a file beside.
type printer struct {
	name, id string
	count    string
}

// startPrinters makes some, which stay enabled.
func (s *soak) startPrinters() {
	s.t.Helper()
	s.printers = nil
	for i := range 3 {
		p := &printer{name: fmt.Sprintf("printer%d", i), count: filepath.Join(s.t.TempDir(), "count")}
		config := daemontest.PluginConfig("-listen", daemontest.PluginListen, "-print", "numbers", "-count", "/count/count")
		// Not a volume driver: it would say of every volume that it has it.
		config["interface"] = map[string]any{"socket": daemontest.PluginSocket, "types": []string{"soak.printer/1.0"}}
		config["mounts"] = []map[string]any{{
			"name": "count", "type": "bind", "source": filepath.Dir(p.count), "destination": "/count", "options": []string{"rbind", "rw"},
		}}
		dir := daemontest.Context(s.t, config, testutil.Build(s.t, "./test/hostile/plugin"))
		f, err := os.Open(daemontest.Tar(s.t, dir))
		if err != nil {
			s.t.Fatal(err)
		}
		created, _, err := s.c.Create(s.t.Context(), p.name, f, outlet.CreateOptions{})
		if err = errors.Join(err, f.Close()); err == nil {
			err = s.c.Enable(s.t.Context(), p.name, outlet.EnableOptions{})
		}
		if err != nil {
			s.t.Fatal(err)
		}
		p.id = created.ID
		s.printers = append(s.printers, p)
		s.ids[p.id] = true
	}
}

// killPrinter kills one, if it runs: after a few kills there are delays.
func (s *soak) killPrinter() error {
	p, err := s.c.Inspect(s.t.Context(), s.printers[s.r.IntN(len(s.printers))].name)
	if err != nil || p.Status.PID == 0 {
		return err
	}
	if err := syscall.Kill(p.Status.PID, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// checkPrinters ends the printers and reads all that was printed. Whoever died
// meanwhile, plugin or daemon, no line is missing and none is there twice.
func (s *soak) checkPrinters() {
	s.t.Helper()
	for _, p := range s.printers {
		if err := s.c.Disable(s.t.Context(), p.name, false); err != nil {
			s.t.Fatal(err)
		}
		printed, err := p.printed()
		if err != nil {
			s.t.Fatal(err)
		}
		logged, err := s.logged(p.name)
		if err == nil {
			err = compare(printed, logged)
		}
		if err != nil {
			s.t.Errorf("the log of %s: %v", p.name, err)
		}
		total := 0
		for _, n := range logged {
			total += n
		}
		s.t.Logf("%s printed %d lines in %d starts", p.name, total, len(printed))
	}
}

// printed is how many lines it knows that each of its starts has printed.
func (p *printer) printed() (starts []int, err error) {
	b, err := os.ReadFile(p.count)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(b)) {
		n, err := strconv.Atoi(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		starts = append(starts, n)
	}
	return starts, nil
}

// logged is how many lines of each start are in the log, of those that printed
// any. It is an error if one does not follow the one before it.
func (s *soak) logged(name string) (starts []int, err error) {
	err = s.c.Logs(s.t.Context(), name, outlet.LogOptions{Tail: -1}, func(e outlet.LogEntry) error {
		if e.Stream != "stdout" {
			return nil
		}
		n, err := strconv.Atoi(e.Line)
		if err != nil {
			return fmt.Errorf("line %q: %w", e.Line, err)
		}
		if n == 1 {
			starts = append(starts, 0)
		}
		last := len(starts) - 1
		if last < 0 {
			return fmt.Errorf("it begins with %d", n)
		}
		if n != starts[last]+1 {
			return fmt.Errorf("%d follows %d", n, starts[last])
		}
		starts[last] = n
		return nil
	})
	return starts, err
}

// compare says whether all that was printed was logged. A start that was killed
// may have printed one line more than it knows of.
func compare(printed, logged []int) error {
	i := 0
	for start, n := range printed {
		if n == 0 && len(logged)-i < len(printed)-start {
			continue // it had not come to print: there are fewer in the log than are left
		}
		if i == len(logged) {
			return fmt.Errorf("it has %v, and was to have %v", logged, printed)
		}
		if logged[i] != n && logged[i] != n+1 {
			return fmt.Errorf("start %d has %d lines, and printed %d: %v, %v", start+1, logged[i], n, logged, printed)
		}
		i++
	}
	if i != len(logged) || i == 0 {
		return fmt.Errorf("it has %v, and was to have %v", logged, printed)
	}
	return nil
}
