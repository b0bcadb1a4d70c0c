package contained

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/reap"
)

// kind is the note of some runtime.
type kind struct {
	Note
	Own string `json:"own,omitempty"`
}

func newNotes(t *testing.T) *Notes {
	t.Helper()
	return NewNotes(t.TempDir(), func() Noted { return new(kind) }, slog.New(slog.DiscardHandler))
}

func read(t *testing.T, n *Notes, id string) kind {
	t.Helper()
	var k kind
	if err := n.Read(id, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTheExitIsAddedToTheNoteOfItsProcessOnly(t *testing.T) {
	mine, other := reap.Identity{PID: 7, Start: 1}, reap.Identity{PID: 7, Start: 2}
	exit := outlet.Exit{Code: 3}
	for name, tt := range map[string]struct {
		before *reap.Identity
		want   *outlet.Exit
	}{
		"its own":                    {&mine, &exit},
		"a successor's with its pid": {&other, nil},
		"one that is not started":    {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNotes(t)
			k := kind{Note: Note{Bundle: "/bundle", Init: tt.before}, Own: "kept"}
			if err := n.Write("id", &k); err != nil {
				t.Fatal(err)
			}
			if err := n.addExit("id", mine, exit); err != nil {
				t.Fatal(err)
			}
			k.Exit = tt.want
			if d := cmp.Diff(k, read(t, n, "id")); d != "" {
				t.Errorf("note (-want +got):\n%s", d)
			}
		})
	}
}

func TestTheExitOfARemovedContainerMakesNoNote(t *testing.T) {
	n := newNotes(t)
	if err := n.addExit("id", reap.Identity{PID: 7}, outlet.Exit{}); err != nil {
		t.Fatal(err)
	}
	if err := n.Read("id", new(kind)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestATornNoteIsReadAsFarAsItGoes(t *testing.T) {
	n := newNotes(t)
	if err := os.WriteFile(n.Path("id"), []byte(`{"bundle":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(kind{}, read(t, n, "id")); d != "" {
		t.Errorf("note (-want +got):\n%s", d)
	}
}

func TestForgetRemovesWhatACrashLeft(t *testing.T) {
	n := newNotes(t)
	for _, path := range []string{n.Path("id"), n.tmpPath("id")} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second time there is nothing
		if err := n.Forget("id"); err != nil {
			t.Error(err)
		}
	}
	if entries, err := os.ReadDir(n.dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestIDsAreThoseOfNotesAndOfDirectoriesIfAsked(t *testing.T) {
	n := newNotes(t)
	for _, id := range []string{"b", "a"} {
		if err := n.Write(id, new(kind)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".c.json", "d"} {
		if err := os.WriteFile(filepath.Join(n.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "e", ".exec-1"} {
		if err := os.Mkdir(filepath.Join(n.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for dirs, want := range map[bool][]string{false: {"a", "b"}, true: {"a", "b", "e"}} {
		got, err := n.IDs(dirs)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("with directories %v (-want +got):\n%s", dirs, d)
		}
	}
}
