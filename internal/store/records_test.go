package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/testutil"
)

func TestNamesAreUnique(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		add(t, s, "x:latest", small(t, "1"))
		art := create(t, s, small(t, "2"))
		_, err := s.Add(t.Context(), Record{ID: newID(t), Name: "x:latest"}, art)
		if !errdefs.IsAlreadyExists(err) || err.Error() != "plugin x:latest already exists" {
			t.Errorf("got %v", err)
		}
		if err := art.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClean(t, s)
	})
}

func TestOneOfManyConcurrentAddsOfANameSucceeds(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			art := create(t, s, small(t, fmt.Sprint(i)))
			_, err := s.Add(t.Context(), Record{ID: newID(t), Name: "x:latest"}, art)
			if err := art.Release(t.Context()); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				won++
			} else if !errdefs.IsAlreadyExists(err) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d succeeded", won)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s)
}

func TestUpdateIsAllOrNothingAndMovesWhatIsHeld(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		r := add(t, s, "x:latest", small(t, "old"))
		stop := errors.New("stop")
		_, err := s.Update(t.Context(), r.ID, func(r *Record) error { r.Enabled = true; return stop })
		if !errors.Is(err, stop) {
			t.Errorf("got %v", err)
		}
		if got, err := s.Get(t.Context(), r.ID); err != nil || !cmp.Equal(got, r) {
			t.Errorf("changed by a failed update: %s %v", cmp.Diff(r, got), err)
		}

		art := create(t, s, small(t, "new"))
		key, err := s.PrepareRootfs(t.Context(), art, r.ID, 2)
		if err != nil {
			t.Fatal(err)
		}
		r2, err := s.Update(t.Context(), r.ID, func(r *Record) error {
			art.Describe(r)
			r.Generation, r.Rootfs, r.Name = 2, key, "y:latest"
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := art.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		stats, err := s.GC(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if stats.Blobs != 2 || stats.Snapshots != 2 {
			t.Errorf("collected %+v, want the old version", stats)
		}
		if got := readRootfs(t, s, r2, "plugin"); got != "new" {
			t.Errorf("plugin holds %q", got)
		}
		wantClean(t, s)
		add(t, s, "x:latest", small(t, "old")) // the name is free again
	})
}

func TestWhatAnUpgradeMayHaveToGoBackToIsKept(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		r := add(t, s, "x:latest", small(t, "old"))
		upgrade := func(content string, generation int) {
			t.Helper()
			art := create(t, s, small(t, content))
			key, err := s.PrepareRootfs(t.Context(), art, r.ID, generation)
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.Update(t.Context(), r.ID, func(r *Record) error {
				r.KeepPrevious()
				art.Describe(r)
				r.Generation, r.Rootfs, r.Reference, r.Settings.Args = generation, key, content, []string{content}
				return nil
			})
			if err := errors.Join(err, art.Release(t.Context())); err != nil {
				t.Fatal(err)
			}
		}
		collected := func(blobs int) {
			t.Helper()
			stats, err := s.GC(t.Context())
			if err != nil || stats.Blobs != blobs {
				t.Errorf("collected %+v, %v; want %d blobs", stats, err, blobs)
			}
			wantClean(t, s)
		}
		before, err := s.Usage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		upgrade("never ready", 2)
		collected(0)
		upgrade("nor that", 3) // what it replaces is not worth going back to
		collected(2)
		u, err := s.Usage(t.Context())
		if err != nil || u.Plugins[0].Unique <= before.Plugins[0].Unique || u.Plugins[0].Written < 2*before.Plugins[0].Written || u.Layers.Reclaimable != 0 {
			t.Errorf("usage %+v before, %+v now, %v", before.Plugins, u.Plugins, err)
		}
		back, err := s.Update(t.Context(), r.ID, func(r *Record) error {
			r.GoBack(strings.Repeat("€", maxUndone))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(back.Undone) > maxUndone || !utf8.ValidString(back.Undone) || back.Undone == "" {
			t.Errorf("it says why with %d bytes", len(back.Undone))
		}
		want := r.Clone()
		want.Generation, want.Undone = 3, back.Undone
		if diff := cmp.Diff(want, back); diff != "" {
			t.Errorf("back, but: %s", diff)
		}
		collected(2)
		if got := readRootfs(t, s, back, "plugin"); got != "old" {
			t.Errorf("plugin holds %q", got)
		}
		back.GoBack("again") // there is nothing left to go back to
		if back.Undone == "again" {
			t.Error("went back twice")
		}
	})
}

func TestARecordSurvivesReopening(t *testing.T) {
	root := testutil.TempDir(t)
	s := openStore(t, root, Native)
	art := create(t, s, small(t, "hello"))
	value := "v"
	r, err := s.Add(t.Context(), Record{
		ID: newID(t), Name: "x:latest", Reference: "x:latest", Enabled: true, Timeout: 5e9,
		Config:   outlet.Config{Env: []outlet.Env{{Name: "A", Value: &value}}},
		Settings: outlet.Settings{Env: []string{}, Args: []string{"a b"}, Mounts: []outlet.Mount{}, Devices: []outlet.Device{}},
	}, art)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil { // the artifact is not released: the daemon died
		t.Fatal(err)
	}
	s = openStore(t, root, "")
	got, err := s.Get(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, got); diff != "" {
		t.Error(diff)
	}
	if got.CreatedAt.IsZero() || got.Version != 1 || got.Generation != 1 {
		t.Errorf("not set: %+v", got)
	}
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s)
}

func TestDamagedRecordsAreListedAndCanBeDeleted(t *testing.T) {
	for name, damaged := range map[string]string{
		"not JSON":        "{",
		"a newer version": `{"Version":99}`,
		"wrong types":     `{"Version":1,"Layers":7}`,
		"another's id":    `{"Version":1,"ID":"x","Name":"y"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, testutil.TempDir(t), Native)
			good := add(t, s, "good:latest", small(t, "1"))
			bad := add(t, s, "bad:latest", small(t, "2"))
			err := s.DB().Update(func(tx *bbolt.Tx) error {
				return recordBucket(tx).Put([]byte(bad.ID), []byte(damaged))
			})
			if err != nil {
				t.Fatal(err)
			}
			records, broken, err := s.Records(t.Context())
			if err != nil || len(records) != 1 || records[0].ID != good.ID {
				t.Errorf("records: %v %v", records, err)
			}
			if len(broken) != 1 || broken[0].ID != bad.ID || broken[0].Name != "bad:latest" {
				t.Errorf("damaged: %+v", broken)
			}
			if _, err := s.Get(t.Context(), bad.ID); !errdefs.IsDataLoss(err) {
				t.Errorf("got %v", err)
			}
			if _, err := s.GC(t.Context()); err != nil { // takes nothing of it
				t.Fatal(err)
			}
			report, err := s.Check(t.Context())
			if err != nil || len(report.Problems) != 1 || report.Problems[0].Kind != DamagedRecord {
				t.Errorf("report: %+v %v", report, err)
			}
			if err := s.Delete(t.Context(), bad.ID); err != nil {
				t.Fatal(err)
			}
			if _, err := s.GC(t.Context()); err != nil {
				t.Fatal(err)
			}
			wantClean(t, s)
		})
	}
}

func FuzzDecodeRecord(f *testing.F) {
	id := []byte(strings.Repeat("a", 64))
	seed, err := json.Marshal(Record{Version: 1, ID: string(id), Name: "x:latest", Layers: []Layer{{DiffID: "sha256:x"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"Version":1}`))
	f.Add([]byte(`{"Version":2,"ID":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRecord(id, b)
		if err != nil {
			if !errdefs.IsDataLoss(err) {
				t.Fatalf("%v is not data loss", err)
			}
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Skip() // only types with rules of their own refuse
		}
		r2, err := decodeRecord(id, again)
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if diff := cmp.Diff(r, r2); diff != "" {
			t.Fatal(diff)
		}
	})
}
