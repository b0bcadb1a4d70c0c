package testutil

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Main runs the tests of a package and then fails if they left goroutines,
// file descriptors or child processes behind. (Mounts are watched by [TempDir]:
// only there it is known whose they are.) Call it from TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(testutil.Main(m)) }
func Main(m *testing.M) int {
	before := takeStock()
	code := m.Run()
	if code != 0 {
		return code
	}
	var left []string
	// What ends by itself may take a moment: connections being closed, readers
	// that see the end of their stream.
	deadline := time.Now().Add(time.Minute)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Now().Before(deadline) {
		if left = takeStock().beyond(before); len(left) == 0 {
			return 0
		}
		<-tick.C
	}
	fmt.Fprintf(os.Stderr, "FAIL: the tests left %d things behind:\n", len(left))
	for _, what := range left {
		fmt.Fprintf(os.Stderr, "\t%s\n", strings.ReplaceAll(what, "\n", "\n\t\t"))
	}
	return 1
}

// stock is what a process holds: names of things, with how often each is there.
type stock map[string]int

func takeStock() stock {
	s := make(stock)
	for _, g := range goroutines() {
		s[g]++
	}
	s.addDescriptors()
	s.addChildren()
	return s
}

// beyond returns what s has and before had not, or had less of.
func (s stock) beyond(before stock) []string {
	var more []string
	for what, n := range s {
		if n > before[what] {
			more = append(more, what)
		}
	}
	slices.Sort(more)
	return more
}

// goroutines returns the stacks of all goroutines but the calling one and those
// of the Go runtime and of package testing, without what differs between two
// looks at the same goroutine.
func goroutines() []string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var stacks []string
	for i, stack := range strings.Split(string(buf), "\n\n") {
		if i == 0 || strings.Contains(stack, "os/signal.loop") || strings.Contains(stack, "testing.(*M).startAlarm") {
			continue
		}
		_, frames, _ := strings.Cut(stack, "\n")
		var keep []string
		for line := range strings.Lines(frames) {
			line = strings.TrimRight(line, "\n")
			if strings.HasPrefix(line, "\t") {
				line, _, _ = strings.Cut(line, " +0x")
			} else if at := strings.LastIndexByte(line, '('); at > 0 && strings.HasSuffix(line, ")") {
				line = line[:at]
			}
			keep = append(keep, line)
		}
		stacks = append(stacks, "goroutine: "+strings.Join(keep, "\n"))
	}
	return stacks
}

// addDescriptors counts open files by what they are. Polling is the Go
// runtime's own business.
func (s stock) addDescriptors() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		target, err := os.Readlink("/proc/self/fd/" + e.Name())
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") || strings.HasPrefix(target, "/proc/") {
			continue
		}
		if kind, _, ok := strings.Cut(target, ":["); ok { // a socket or a pipe: its number says nothing
			target = kind
		}
		s["descriptor: "+target]++
	}
}

// addChildren counts the children of this process, zombies included.
func (s stock) addChildren() {
	lists, err := filepath.Glob("/proc/self/task/*/children")
	if err != nil {
		return
	}
	for _, list := range lists {
		pids, err := os.ReadFile(list)
		if err != nil {
			continue
		}
		for _, pid := range strings.Fields(string(pids)) {
			comm, err := os.ReadFile("/proc/" + pid + "/comm")
			if err != nil {
				continue
			}
			s["child process: "+strings.TrimSpace(string(comm))]++
		}
	}
}
