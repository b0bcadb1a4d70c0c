package store

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/testutil"
)

func TestConcurrentCreatesDeletesAndCollections(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		var workers, collector sync.WaitGroup
		stop := make(chan struct{})
		collector.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if _, err := s.GC(t.Context()); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
		for w := range 6 {
			workers.Go(func() {
				for i := range 6 {
					// Half of the content is that of another worker too.
					body := small(t, fmt.Sprint(w/2, i))
					r := add(t, s, fmt.Sprintf("p%d-%d:latest", w, i), body)
					if i%2 == 0 {
						if err := s.Delete(t.Context(), r.ID); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
		workers.Wait()
		close(stop)
		collector.Wait()
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClean(t, s)
		records, _, err := s.Records(t.Context())
		if err != nil || len(records) != 18 {
			t.Fatalf("%d records, %v", len(records), err)
		}
		for _, r := range records {
			var w, i int
			if _, err := fmt.Sscanf(r.Name, "p%d-%d:latest", &w, &i); err != nil {
				t.Fatal(err)
			}
			if got, want := readRootfs(t, s, r, "plugin"), fmt.Sprint(w/2, i); got != want {
				t.Errorf("%s holds %q, want %q", r.Name, got, want)
			}
		}
	})
}

func TestWhatADeadDaemonLeftGoesWithTheFirstCollection(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		root, snap := s.Root(), s.Snapshotter()
		create(t, s, small(t, "never added"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"tmp/half", "removing/half", "snapshots/" + snap + "/snapshots/new-1", "snapshots/" + snap + "/snapshots/3", "content/ingest/half"} {
			if err := os.MkdirAll(filepath.Join(root, dir, "deep"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		s = openStore(t, root, "")
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantEmpty(t, s)
	})
}

func TestACreateThatWaitsHoldsNobodyUp(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		slow, feed := io.Pipe()
		var wg sync.WaitGroup
		wg.Go(func() {
			art, err := s.CreateFromContext(t.Context(), slow, rootfs.Limits{}, asIs)
			if err != nil {
				t.Error(err)
				return
			}
			if err := art.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
		body := small(t, "slow")
		if _, err := feed.Write(body[:1500]); err != nil { // in the midst of it
			t.Fatal(err)
		}
		for i := range 3 {
			add(t, s, fmt.Sprintf("x%d:latest", i), small(t, fmt.Sprint(i)))
			if _, err := s.GC(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := feed.Write(body[1500:]); err != nil {
			t.Fatal(err)
		}
		if err := feed.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait() // what it had begun was not collected
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClean(t, s)
	})
}

func TestCheckFindsWhatIsMissingAndWhatIsTooMuch(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	r := add(t, s, "x:latest", small(t, "1"))
	blobs := filepath.Join(s.Root(), "content/blobs/sha256")
	if err := os.Remove(filepath.Join(blobs, r.ConfigDigest.Encoded())); err != nil {
		t.Fatal(err)
	}
	stray := digest.FromString("stray")
	if err := os.WriteFile(filepath.Join(blobs, stray.Encoded()), []byte("stray"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"plugins/nobody", "snapshots/native/snapshots/999"} {
		if err := os.Mkdir(filepath.Join(s.Root(), dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.snapshots().Remove(s.Context(t.Context()), r.Rootfs); err != nil {
		t.Fatal(err)
	}
	report, err := s.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[ProblemKind]int{}
	for _, p := range report.Problems {
		got[p.Kind]++
	}
	want := map[ProblemKind]int{MissingBlob: 1, MissingRootfs: 1, OrphanBlob: 1, OrphanSnapshot: 1, OrphanDirectory: 2}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s\n%+v", diff, report.Problems)
	}
}
