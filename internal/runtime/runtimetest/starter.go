package runtimetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/outletd/outlet/internal/dirlock"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/testutil" //nolint:depguard // this package is for tests only
)

// Factory makes the runtime under test, with its state in a directory. It is
// also called in another process, with the same directory.
type Factory func(state string, r *reap.Reaper) (runtime.Runtime, error)

// starterEnv tells the test binary that it is the starter of a container, to be
// killed later.
const starterEnv = "OUTLET_RUNTIMETEST_STARTER"

// order is what a starter is told.
type order struct {
	State     string
	Subreaper bool
	ID, Dir   string
	Owned     []string
}

// Main is what TestMain of a package that calls [Run] calls.
func Main(m *testing.M, f Factory) int {
	if raw := os.Getenv(starterEnv); raw != "" {
		fmt.Println("failed:", starter(raw, f))
		return 1
	}
	return testutil.Main(m)
}

// starter starts a container, says so and waits to be killed. It returns only
// with an error.
func starter(raw string, f Factory) error {
	var o order
	if err := json.Unmarshal([]byte(raw), &o); err != nil {
		return err
	}
	lock, err := dirlock.Lock(filepath.Dir(o.State), "directory")
	if err != nil {
		return err
	}
	defer lock.Close()
	r, err := reap.New(reap.Config{Subreaper: o.Subreaper})
	if err != nil {
		return err
	}
	rt, err := f(o.State, r)
	if err != nil {
		return err
	}
	b := runtime.Bundle{ID: o.ID, Dir: o.Dir, Owned: o.Owned}
	for name, file := range map[string]**os.File{"/stdout": &b.Stdout, "/stderr": &b.Stderr} {
		if *file, err = os.OpenFile(o.Dir+name, os.O_WRONLY|os.O_APPEND, 0); err != nil {
			return err
		}
	}
	fmt.Println("starting")
	t, err := rt.Start(context.Background(), b)
	if err != nil {
		return err
	}
	fmt.Println("started", t.PID())
	select {}
}

// startElsewhere starts the box in another process; returned is what kills that
// process and waits for it. With waitFor "started" it returns when the
// container runs, with "starting" when it is about to be started.
func startElsewhere(tb testing.TB, state string, b *Box, waitFor string) (kill func()) {
	tb.Helper()
	raw, err := json.Marshal(order{State: state, Subreaper: true, ID: b.ID, Dir: b.Dir, Owned: b.Owned})
	must(tb, err)
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe")
	cmd.Env = append(os.Environ(), starterEnv+"="+string(raw))
	cmd.Stderr = os.Stderr
	// A pipe of our own: what the starter leaves behind must not hold ours open.
	r, w, err := os.Pipe()
	must(tb, err)
	defer r.Close()
	cmd.Stdout = w
	err = errors.Join(cmd.Start(), w.Close())
	must(tb, err)
	kill = func() {
		_ = cmd.Process.Signal(syscall.SIGKILL) // it may have ended
		_ = cmd.Wait()                          // by a signal: an error in any case
		// As a manager does before it looks for what another one left: until then
		// a process may be between fork and exec, and not be seen.
		lock, err := dirlock.Lock(filepath.Dir(state), "directory")
		must(tb, err)
		must(tb, lock.Close())
	}
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), waitFor) {
			return kill
		}
		if strings.HasPrefix(lines.Text(), "failed") {
			kill()
			tb.Fatal(lines.Text())
		}
	}
	kill()
	tb.Fatal("the starter ended and said nothing")
	return nil
}
