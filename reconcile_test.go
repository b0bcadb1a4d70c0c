package outlet

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReconcile(t *testing.T) {
	s := func(v string) *string { return &v }
	set := []string{"value"}
	old := Config{
		Env: []Env{
			{Name: "KEPT", Value: s("a"), Settable: set},
			{Name: "FOLLOWS", Value: s("a"), Settable: set},
			{Name: "FIXED", Value: s("a"), Settable: set},
			{Name: "GONE", Value: s("a"), Settable: set},
			{Name: "NONE", Settable: set},
		},
		Mounts: []Mount{
			{Name: "m", Source: s("/a"), Destination: "/m", Settable: []string{"source"}},
			{Name: "default", Source: s("/a"), Destination: "/d"},
			{Name: "lost", Source: s("/a"), Destination: "/l", Settable: []string{"source"}},
		},
		Linux: Linux{Devices: []Device{{Name: "d", Path: s("/dev/a"), Settable: []string{"path"}}, {Name: "e", Path: s("/dev/e"), Settable: []string{"path"}}}},
		Args:  Args{Name: "args", Value: []string{"a"}, Settable: set},
	}
	next := Config{
		Env: []Env{
			{Name: "NEW", Value: s("n")},
			{Name: "KEPT", Value: s("b"), Settable: set},
			{Name: "FOLLOWS", Value: s("b"), Settable: set},
			{Name: "FIXED", Value: s("b")},
			{Name: "NONE", Settable: set},
		},
		Mounts: []Mount{{Name: "m", Source: s("/b"), Destination: "/m2", Settable: []string{"source"}}, {Name: "default", Source: s("/b"), Destination: "/d"}},
		Linux:  Linux{Devices: []Device{{Name: "d", Path: s("/dev/b"), Settable: []string{"path"}}, {Name: "e", Path: s("/dev/e")}, {Name: "f", Path: s("/dev/f")}}},
		Args:   Args{Name: "args", Value: []string{"b"}, Settable: set},
	}
	was, err := NewSettings(old).Set(old, []string{"KEPT=mine", "FIXED=mine", "GONE=mine", "NONE=mine", "m=/mine", "lost=/mine", "d=/dev/mine", "e=/dev/mine", "args=x y"})
	if err != nil {
		t.Fatal(err)
	}
	was.Env = append(was.Env, "EXTRA=given at creation")
	before := was.Clone()
	got, changed := was.Reconcile(old, next)
	if want := []string{"NEW=n", "KEPT=mine", "FOLLOWS=b", "FIXED=b", "NONE=mine", "EXTRA=given at creation"}; !slices.Equal(got.Env, want) {
		t.Errorf("env %q", got.Env)
	}
	if *got.Mounts[0].Source != "/mine" || got.Mounts[0].Destination != "/m2" || *got.Mounts[1].Source != "/b" || len(got.Mounts) != 2 {
		t.Errorf("mounts %+v", got.Mounts)
	}
	if *got.Devices[0].Path != "/dev/mine" || *got.Devices[1].Path != "/dev/e" || *got.Devices[2].Path != "/dev/f" {
		t.Errorf("devices %+v", got.Devices)
	}
	if !slices.Equal(got.Args, []string{"x", "y"}) {
		t.Errorf("args %q", got.Args)
	}
	want := []string{
		"env FOLLOWS has a new default", "env FIXED cannot be set any more: it has the new version's value",
		"env GONE is gone: what it was set to is dropped", "env NEW is new",
		"mount default has a new default", "mount lost is gone: what it was set to is dropped",
		"device e cannot be set any more: it has the new version's value", "device f is new",
	}
	if diff := cmp.Diff(want, changed); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(before, was); diff != "" {
		t.Errorf("it changed what it was called on\n%s", diff)
	}
	if got, changed := was.Reconcile(old, old); len(changed) != 0 || cmp.Diff(was, got) != "" {
		t.Errorf("to the same config: %q %+v", changed, got)
	}
}
