package chroot

import (
	"errors"
	"log/slog"
	"maps"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet/internal/reap"
	"github.com/outletd/outlet/internal/runtime/contained"
)

func TestADescendantHasTheParentThatWasThereBefore(t *testing.T) {
	all := map[int]reap.Stat{
		10: {Parent: 1, Start: 100},
		11: {Parent: 10, Start: 110},
		12: {Parent: 11, Start: 120},
		20: {Parent: 1, Start: 130},
	}
	for name, tt := range map[string]struct {
		child reap.Stat
		now   map[int]uint64 // start times that changed since all was read
		want  []int
	}{
		"a child of a member":                                {reap.Stat{Parent: 10, Start: 140}, nil, []int{10, 11, 12, 13}},
		"a child of another process":                         {reap.Stat{Parent: 20, Start: 140}, nil, []int{10, 11, 12}},
		"a child of one whose pid a member has now":          {reap.Stat{Parent: 10, Start: 90}, nil, []int{10, 11, 12}},
		"a child of one who has a member's pid now":          {reap.Stat{Parent: 12, Start: 150}, map[int]uint64{12: 145}, []int{10, 11, 12}},
		"a child of a member that has ended":                 {reap.Stat{Parent: 12, Start: 150}, map[int]uint64{12: 0}, []int{10, 11, 12}},
		"children whose parent ended while they were read":   {reap.Stat{Parent: 11, Start: 150}, map[int]uint64{11: 0}, []int{10, 11}},
		"children of a successor of the container's process": {reap.Stat{Parent: 10, Start: 150}, map[int]uint64{10: 145}, []int{10}},
	} {
		t.Run(name, func(t *testing.T) {
			all := maps.Clone(all)
			all[13] = tt.child
			inside := map[int]reap.Stat{10: all[10]}
			addDescendants(inside, all, func(pid int) (uint64, error) {
				start, changed := tt.now[pid]
				switch {
				case !changed:
					return all[pid].Start, nil
				case start == 0:
					return 0, errors.New("it has ended")
				}
				return start, nil
			})
			if d := cmp.Diff(tt.want, slices.Sorted(maps.Keys(inside))); d != "" {
				t.Errorf("members (-want +got):\n%s", d)
			}
		})
	}
}

func TestEachParentIsAskedForOnce(t *testing.T) {
	const bombs, children = 50, 200
	all := map[int]reap.Stat{1: {Start: 1}}
	for i := range bombs {
		parent := 2 + i*(children+1)
		all[parent] = reap.Stat{Parent: 1, Start: 2}
		for j := range children {
			all[parent+1+j] = reap.Stat{Parent: parent, Start: 3}
		}
	}
	asked := make(map[int]int)
	inside := map[int]reap.Stat{1: all[1]}
	addDescendants(inside, all, func(pid int) (uint64, error) {
		if asked[pid]++; asked[pid] > 1 {
			t.Fatalf("process %d is asked for again", pid)
		}
		return all[pid].Start, nil
	})
	if len(inside) != len(all) || len(asked) != bombs+1 {
		t.Errorf("%d of %d found, %d asked for", len(inside), len(all), len(asked))
	}
}

// What has the pid of the main process and nothing else of it is not killed, and
// neither is what is in a session of that number.
func TestAPidAloneMakesNoMember(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	id, err := reap.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	earlier, boot := id, id
	earlier.Start--
	boot.Boot = "another one"
	for name, tt := range map[string]struct {
		init reap.Identity
		want bool
	}{
		"the main process":    {id, true},
		"one before it":       {earlier, false},
		"one of another boot": {boot, false},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := reap.New(reap.Config{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			rt, err := New(Config{StateDir: filepath.Join(t.TempDir(), "state"), Reaper: r, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				t.Fatal(err)
			}
			c := &container{runtime: rt, id: "c", note: note{Note: contained.Note{Init: &tt.init}, Rootfs: t.TempDir()}}
			members, err := c.members()
			if err != nil {
				t.Fatal(err)
			}
			if _, got := members[id.PID]; got != tt.want {
				t.Errorf("it is a member: %v, want %v", got, tt.want)
			}
			if tt.want {
				return
			}
			if err := c.Kill(t.Context(), nil); err != nil {
				t.Error(err)
			}
			if st, err := reap.ReadStat(id.PID); err != nil || st.State == 'Z' {
				t.Errorf("another's process was killed: %+v, %v", st, err)
			}
		})
	}
}
