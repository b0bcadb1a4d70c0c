package store

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

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

func TestWhatACreateGaveUpIsLitterUntilItIsCollected(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		add(t, s, "a:latest", small(t, "1"))
		if s.Litter() {
			t.Error("a create of something new made litter")
		}
		add(t, s, "b:latest", small(t, "1"))
		if !s.Litter() {
			t.Error("a create of what was there already made none")
		}
		for range 2 { // the first of a store makes some to look at everything
			if _, err := s.GC(t.Context()); err != nil {
				t.Fatal(err)
			}
			if s.Litter() {
				t.Error("a collection left it")
			}
		}
		wantClean(t, s)
	})
}

func TestACollectionForgetsWhatFailedBeforeIt(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		r := add(t, s, "a:latest", small(t, "1"))
		// Before the first collection, which looks at everything anyway, something
		// fails whose parts may be left.
		art := create(t, s, small(t, "2"))
		if _, err := s.Add(t.Context(), Record{ID: r.ID, Name: "b:latest"}, art); err == nil {
			t.Fatal("two plugins have one id")
		}
		s.failed.Store(true) // whatever the store made of it
		if err := art.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := s.GC(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		wantClean(t, s)
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
	// Behind the store's back: what it removes itself is only litter.
	if err := s.meta.Snapshotter(s.snap).Remove(s.Context(t.Context()), r.Rootfs); err != nil {
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

// TestLayersAreUnpackedOnce applies the layers of a plugin twice, as two
// installs of it would, with collections between.
func TestLayersAreUnpackedOnce(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		bottom, top := archive(t, file{name: "a", body: "1"}, file{name: "b", body: "1"}), archive(t, file{name: "b", body: "2"}, file{name: ".wh.a"})
		var layers []rootfs.Layer
		blobs := map[digest.Digest][]byte{}
		for _, b := range [][]byte{bottom, top} {
			d := digest.FromBytes(b)
			blobs[d] = b
			layers = append(layers, rootfs.Layer{Blob: ocispec.Descriptor{MediaType: rootfs.MediaTypeLayer, Digest: d, Size: int64(len(b))}, DiffID: d})
		}
		opened := 0
		open := func(_ context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
			opened++
			return io.NopCloser(bytes.NewReader(blobs[d.Digest])), nil
		}
		var arts []*Artifact
		for range 2 {
			art, err := s.newArtifact(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			arts = append(arts, art)
			done, err := rootfs.ApplyLayers(art.context(t.Context()), s.snapshots(), layers, open, rootfs.ApplyOptions{TempDir: filepath.Join(s.Root(), "tmp")})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range layers {
				art.Layers = append(art.Layers, Layer{Blob: l.Blob, DiffID: l.DiffID})
			}
			if done.Chain != art.chain() {
				t.Errorf("chain %s, want %s", done.Chain, art.chain())
			}
			if _, err := s.GC(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		if opened != 2 {
			t.Errorf("%d layers were read, want 2", opened)
		}
		// The first one's lease goes: the second's holds the same.
		if err := arts[0].Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		key, err := s.PrepareRootfs(t.Context(), arts[1], newID(t), 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := readRootfs(t, s, Record{Rootfs: key}, "b"); got != "2" {
			t.Errorf("b holds %q", got)
		}
		if err := arts[1].Release(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantEmpty(t, s)
	})
}
