package runc

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime"
	"github.com/outletd/outlet/internal/runtime/runtimetest"
	"github.com/outletd/outlet/internal/testutil"
)

// tree makes files with contents below a directory of the test.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// The files of both versions of cgroups as the kernel's documents show them;
// hybrid hosts run for real in the suite.
func TestStatsOfEachKindOfCgroups(t *testing.T) {
	v2 := tree(t, map[string]string{
		"cgroup.procs":   "10\n11\n",
		"cpu.stat":       "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n",
		"memory.current": "4096\n",
		"memory.events":  "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\n",
		"pids.current":   "3\n",
	})
	v1 := tree(t, map[string]string{
		"cpuacct/cpuacct.usage":        "1500000\n",
		"memory/memory.usage_in_bytes": "8192\n",
		"memory/memory.oom_control":    "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
		"pids/cgroup.procs":            "10\n11\n",
		"pids/pids.current":            "2\n",
	})
	bare := tree(t, map[string]string{"cgroup.procs": "10\n11\n12\n", "cpu.stat": "usage_usec x\n"})
	for _, test := range []struct {
		name string
		cg   cgroups
		want runtime.Stats
		oom  bool
	}{
		{"v2", cgroups{"": v2}, runtime.Stats{CPU: 1500 * time.Microsecond, MemoryBytes: 4096, PIDs: 3}, true},
		{
			"v1",
			cgroups{"cpuacct": v1 + "/cpuacct", "memory": v1 + "/memory", "pids": v1 + "/pids"},
			runtime.Stats{CPU: 1500 * time.Microsecond, MemoryBytes: 8192, PIDs: 2},
			true,
		},
		{"v2 without controllers counts processes", cgroups{"": bare}, runtime.Stats{CPU: -1, MemoryBytes: -1, PIDs: 3}, false},
		{"none", nil, runtime.Stats{CPU: -1, MemoryBytes: -1, PIDs: -1}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.cg.stats()
			got.At = time.Time{}
			if d := cmp.Diff(test.want, got); d != "" {
				t.Error(d)
			}
			if got := test.cg.oomKilled(); got != test.oom {
				t.Errorf("oomKilled is %v", got)
			}
		})
	}
}

func TestProcessesOfNestedCgroupsCountOnce(t *testing.T) {
	dir := tree(t, map[string]string{
		"unified/cgroup.procs":     "10\n",
		"unified/sub/cgroup.procs": "12\n0\n",
		"freezer/cgroup.procs":     "10\n12\n13\n",
	})
	got, err := cgroups{"": dir + "/unified", "freezer": dir + "/freezer", "pids": "/nonexistent"}.processes()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]int{10, 12, 13}, got); d != "" {
		t.Error(d)
	}
	if got, err := (cgroups{"": "/nonexistent"}).processes(); err != nil || len(got) != 0 {
		t.Errorf("processes of nothing are %v, %v", got, err)
	}
}

func TestLastErrorOfALog(t *testing.T) {
	for _, test := range []struct{ name, log, want string }{
		{"none", `{"level":"warning","msg":"w"}`, ""},
		{"the last one", "{\"level\":\"error\",\"msg\":\"a\"}\n{\"level\":\"error\",\"msg\":\"b\\n\"}\n{\"level\":\"info\",\"msg\":\"c\"}\n", "b"},
		{"among garbage", "garbage\n{\"level\":\"fatal\",\"msg\":\"a\"}\n{", "a"},
		{"a line without end", strings.Repeat("x", maxLog+10), ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := lastError(filepath.Join(tree(t, map[string]string{"log": test.log}), "log")); got != test.want {
				t.Errorf("message is %q, want %q", got, test.want)
			}
		})
	}
	if got := lastError("/nonexistent"); got != "" {
		t.Errorf("message of no log is %q", got)
	}
}

func realRuntime(t *testing.T, subreaper bool) *Runtime {
	t.Helper()
	testutil.Need(t, testutil.Root, testutil.MountNS, testutil.Cgroups, testutil.Runc)
	r, err := reap.New(reap.Config{Subreaper: subreaper})
	if err != nil {
		t.Fatal(err)
	}
	rt, err := New(Config{
		Path: testutil.Program(t, testutil.Runc), Root: filepath.Join(testutil.TempDir(t), "state"), Reaper: r,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := rt.Close(); err != nil {
			t.Error(err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return rt
}

func awaitExit(t *testing.T, task runtime.Task) {
	t.Helper()
	select {
	case <-task.Done():
	case <-time.After(time.Minute):
		t.Fatal("no exit")
	}
}

func TestTooLittleMemoryIsTold(t *testing.T) {
	rt := realRuntime(t, true)
	limit := int64(24 << 20)
	b := runtimetest.NewBox(t, runtimetest.BoxOptions{Args: []string{"eat"}, Change: func(s *specs.Spec) {
		s.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit}}
	}})
	task, err := rt.Start(t.Context(), b.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	awaitExit(t, task)
	if exit := task.Exit(); !exit.OOMKilled || exit.Signal != 9 {
		t.Errorf("exit is %+v", exit)
	}
	if err := task.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

// A program that embeds a manager may not want to be a subreaper.
func TestWithoutASubreaper(t *testing.T) {
	rt := realRuntime(t, false)
	b := runtimetest.NewBox(t, runtimetest.BoxOptions{Args: []string{"doublefork", "2"}, PIDHost: true})
	task, err := rt.Start(t.Context(), b.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	testutil.Eventually(t, 20*time.Second, func() error {
		if n := len(b.Processes(t)); n != 3 {
			return errNumber(n)
		}
		return nil
	})
	for _, want := range []int{0, 3, 255} {
		var out strings.Builder
		code, err := task.Exec(t.Context(), outlet.Process{
			Args:  []string{runtimetest.ProgramPath, "cat"},
			Stdin: strings.NewReader("text"), Stdout: &out,
		})
		if err != nil || code != 0 || out.String() != "text" {
			t.Errorf("cat: %d, %v, %q", code, err, out.String())
		}
		code, err = task.Exec(t.Context(), outlet.Process{Args: []string{runtimetest.ProgramPath, "exit", strconv.Itoa(want)}})
		if err != nil || code != want {
			t.Errorf("exit code is %d, %v, want %d", code, err, want)
		}
	}
	if _, err := task.Exec(t.Context(), outlet.Process{Args: []string{"/missing"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("error is %v", err)
	}
	for _, after := range []time.Duration{1, 20, 50, 500} { // before it runs, and when it does
		ctx, cancel := context.WithTimeout(t.Context(), after*time.Millisecond)
		_, err = task.Exec(ctx, outlet.Process{Args: []string{runtimetest.ProgramPath, "ignore", b.Mark}})
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error is %v", err)
		}
		if n := len(b.Processes(t)); n != 3 {
			t.Errorf("after %d ms: %d processes, want 3", after, n)
		}
	}
	if err := task.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitExit(t, task)
	if exit := task.Exit(); exit.Code != 137 && exit.Code != -1 {
		t.Errorf("exit is %+v", exit)
	}
	if left := b.Processes(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := task.Delete(t.Context()); err != nil {
		t.Error(err)
	}
}

type errNumber int

func (n errNumber) Error() string { return strings.Repeat("process ", int(n)) }

// A cgroup without cgroup.kill, as kernels before 5.14 and v1-only hosts have
// it, is emptied through the freezer.
func TestKillWithoutCgroupKill(t *testing.T) {
	rt := realRuntime(t, true)
	b := runtimetest.NewBox(t, runtimetest.BoxOptions{Args: []string{"bomb"}, PIDHost: true})
	started, err := rt.Start(t.Context(), b.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	c, err := rt.load(b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if c.note.Cgroups["freezer"] == "" {
		if err := started.Kill(t.Context()); err != nil {
			t.Error(err)
		}
		if err := started.Delete(t.Context()); err != nil {
			t.Error(err)
		}
		t.Skip("this host has no freezer of cgroup v1")
	}
	testutil.Eventually(t, 20*time.Second, func() error {
		if n := len(b.Processes(t)); n < 30 {
			return errNumber(n)
		}
		return nil
	})
	v1 := make(map[string]string)
	for name, dir := range c.note.Cgroups {
		if name != "" {
			v1[name] = dir
		}
	}
	c.note.Cgroups = v1
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := c.Kill(ctx, nil); err != nil {
		t.Error(err)
	}
	if left := b.Processes(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := started.Delete(ctx); err != nil {
		t.Error(err)
	}
}

// Whatever runc says it is, a program that hangs is ended.
func TestAHangingRuncIsEnded(t *testing.T) {
	testutil.Need(t, testutil.Busybox)
	r, err := reap.New(reap.Config{Subreaper: true})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	dir := testutil.TempDir(t)
	fake := filepath.Join(dir, "runc")
	if err := os.WriteFile(fake, []byte("#!/bin/sh\nexec sleep 100\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	rt, err := New(Config{Path: fake, Root: filepath.Join(dir, "state"), Reaper: r, StartTimeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	b := runtimetest.NewBox(t, runtimetest.BoxOptions{Args: []string{"exit", "0"}})
	_, err = rt.Start(t.Context(), b.Bundle)
	if err == nil || !strings.Contains(err.Error(), "did not finish within") {
		t.Errorf("error is %v", err)
	}
	if ids, err := rt.List(t.Context()); err != nil || len(ids) != 0 {
		t.Errorf("left: %v, %v", ids, err)
	}
}

func TestNewRemovesWhatAnExecLeft(t *testing.T) {
	r, err := reap.New(reap.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	root := tree(t, map[string]string{".exec-1/pid": "1", "id.json": "{}"})
	rt, err := New(Config{Path: "/nonexistent", Root: root, Reaper: r})
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(root)
	if err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
	dir, err := rt.execDir()
	if err != nil || filepath.Dir(dir) != root {
		t.Errorf("directory is %s, %v", dir, err)
	}
	if ids, err := rt.List(t.Context()); err != nil || len(ids) != 1 || ids[0] != "id" {
		t.Errorf("ids are %v, %v", ids, err)
	}
}

func TestADamagedNoteDoesNotStopPurge(t *testing.T) {
	rt := realRuntime(t, true)
	b := runtimetest.NewBox(t, runtimetest.BoxOptions{Args: []string{"ignore"}, PIDHost: true})
	task, err := rt.Start(t.Context(), b.Bundle)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rt.base.Notes.Path(b.ID), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := rt.Purge(t.Context(), b.ID); err != nil {
		t.Fatal(err)
	}
	awaitExit(t, task)
	if left := b.Processes(t); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := exec.Command("test", "-d", rt.stateDir(b.ID)).Run(); err == nil {
		t.Error("the state directory is left")
	}
	if err := task.Delete(t.Context()); err != nil { // its end was noted meanwhile
		t.Error(err)
	}
}
