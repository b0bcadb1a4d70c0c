package volumes_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/outletd/outlet"
)

func TestCheckComparesMountsWithHolds(t *testing.T) {
	ctx := t.Context()
	p := startPlugin(t, "a/b:latest", "mounted", "idle")
	m := newMachine(t, p)
	if _, _, err := m.Mount(ctx, "mounted", "1"); err != nil {
		t.Fatal(err)
	}
	held := func(plugin string) ([]outlet.Holder, bool) {
		var l []outlet.Holder
		if plugin == p.driver(true).ID {
			plugin = p.name
		}
		for _, h := range m.heldBy(plugin) {
			kind, name, _ := strings.Cut(h, " ")
			l = append(l, outlet.Holder{Kind: kind, Name: name})
		}
		return l, true
	}
	check := func(repair bool, want ...string) {
		t.Helper()
		found, err := m.Check(ctx, held, repair)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range found {
			got = append(got, p.Kind+" "+p.Subject)
			if p.Repaired != repair {
				t.Errorf("%s %s: repaired is %v", p.Kind, p.Subject, p.Repaired)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
	check(false)
	for _, h := range []outlet.Holder{{Kind: "volume", Name: "mounted"}} {
		if err := m.ReleaseHolder(ctx, "a/b:latest", h); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := m.Acquire(ctx, "a/b:latest", "volumedriver", outlet.Holder{Kind: "volume", Name: "idle"}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Acquire(ctx, "a/b:latest", "volumedriver", outlet.Holder{Kind: "client", Name: "7"}); err != nil {
		t.Fatal(err)
	}
	check(false, "stray hold idle", "missing hold mounted")
	check(true, "stray hold idle", "missing hold mounted")
	check(false)
	// A plugin that is disabled by force is held as well.
	m.disable("a/b:latest", true)
	check(false)
	if err := m.ReleaseHolder(ctx, "a/b:latest", outlet.Holder{Kind: "volume", Name: "mounted"}); err != nil {
		t.Fatal(err)
	}
	check(true, "missing hold mounted")
	check(false)
	if got := m.heldBy("a/b:latest"); !slices.Equal(got, []string{"client 7", "volume mounted"}) {
		t.Errorf("held by %q", got)
	}
}
