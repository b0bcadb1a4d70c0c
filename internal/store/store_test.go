package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/sys/userns"
	"github.com/opencontainers/go-digest"
	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/rootfs"
	"github.com/outletd/outlet/internal/testutil"
)

func TestMain(m *testing.M) {
	// containerd's content store says on the global logger that the file system
	// has no fs-verity.
	logrus.SetOutput(io.Discard)
	os.Exit(testutil.Main(m))
}

// both runs a test with each snapshotter that can work here.
func both(t *testing.T, test func(t *testing.T, s *Store)) {
	for _, name := range []string{Overlay, Native} {
		t.Run(name, func(t *testing.T) {
			if name == Overlay {
				testutil.Need(t, testutil.Overlay)
			}
			test(t, openStore(t, testutil.TempDir(t), name))
		})
	}
}

func openStore(t testing.TB, root, snapshotter string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{Root: root, Snapshotter: snapshotter})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// file is one entry of a test's archive.
type file struct {
	name, body string
	hdr        tar.Header // Typeflag 0 is a file, or a directory if name ends in "/"
}

func archive(t testing.TB, files ...file) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, f := range files {
		h := f.hdr
		h.Name, h.Size, h.Uid, h.Gid = f.name, int64(len(f.body)), os.Geteuid(), os.Getegid()
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
			if strings.HasSuffix(f.name, "/") {
				h.Typeflag = tar.TypeDir
			}
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func small(t testing.TB, content string) []byte {
	return archive(t, file{name: "config.json", body: `{"Description":"small"}`}, file{name: "rootfs/"}, file{name: "rootfs/plugin", body: content})
}

func asIs(raw []byte) ([]byte, error) { return raw, nil }

func newID(t testing.TB) string {
	b := make([]byte, 32)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(b)
}

func create(t testing.TB, s *Store, body []byte) *Artifact {
	t.Helper()
	art, err := s.CreateFromContext(t.Context(), bytes.NewReader(body), rootfs.Limits{}, asIs)
	if err != nil {
		t.Fatal(err)
	}
	return art
}

// add creates a plugin.
func add(t testing.TB, s *Store, name string, body []byte) Record {
	t.Helper()
	art := create(t, s, body)
	r, err := s.Add(t.Context(), Record{ID: newID(t), Name: name}, art)
	if err != nil {
		t.Fatal(err)
	}
	if err := art.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

func wantClean(t testing.TB, s *Store) {
	t.Helper()
	report, err := s.Check(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range report.Problems {
		t.Errorf("%s %s: %s", p.Kind, p.Subject, p.Detail)
	}
}

// wantEmpty says that the store holds no blob, ingest, snapshot or lease.
func wantEmpty(t testing.TB, s *Store) {
	t.Helper()
	wantClean(t, s)
	for _, dir := range []string{"content/blobs/sha256", "content/ingest", "snapshots/" + s.Snapshotter() + "/snapshots", "tmp", "removing", "plugins"} {
		entries, err := os.ReadDir(filepath.Join(s.Root(), dir))
		if err != nil {
			t.Error(err)
		}
		for _, e := range entries {
			t.Errorf("left behind: %s/%s", dir, e.Name())
		}
	}
	left, err := s.leases.List(s.Context(t.Context()))
	if err != nil || len(left) > 0 {
		t.Errorf("leases left: %v %v", left, err)
	}
}

// readRootfs reads a file of a record's root filesystem, mounted if it must be.
func readRootfs(t testing.TB, s *Store, r Record, name string) string {
	t.Helper()
	mounts, err := s.RootfsMounts(t.Context(), r.Rootfs)
	if err != nil {
		t.Fatal(err)
	}
	dir, ok := rootfs.BindSource(mounts)
	if !ok {
		dir = filepath.Join(testutil.TempDir(t), "mnt")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := rootfs.Mount(t.Context(), mounts, dir); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := rootfs.Unmount(context.WithoutCancel(t.Context()), dir); err != nil {
				t.Error(err)
			}
		}()
	}
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestCreateAddReadDelete(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		r := add(t, s, "a/b:latest", small(t, "hello"))
		if got := readRootfs(t, s, r, "plugin"); got != "hello" {
			t.Errorf("plugin holds %q", got)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		wantClean(t, s)
		if got := readRootfs(t, s, r, "plugin"); got != "hello" {
			t.Errorf("after a collection plugin holds %q", got)
		}
		config, err := os.ReadFile(filepath.Join(s.Root(), "content/blobs/sha256", r.ConfigDigest.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf(`{"Description":"small","rootfs":{"type":"layers","diff_ids":["%s"]}}`+"\n", r.Layers[0].DiffID)
		if string(config) != want {
			t.Errorf("config blob is %s, want %s", config, want)
		}
		if err := s.Delete(t.Context(), r.ID); err != nil {
			t.Fatal(err)
		}
		stats, err := s.GC(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if stats.Blobs != 2 || stats.Snapshots != 2 {
			t.Errorf("collected %+v, want 2 blobs and 2 snapshots", stats)
		}
		wantEmpty(t, s)
	})
}

func TestLayerBlobIsTheDigestOfItsBytesAndOfTheRootfs(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	r := add(t, s, "x:latest", small(t, "hello"))
	blob, err := os.ReadFile(filepath.Join(s.Root(), "content/blobs/sha256", r.Layers[0].Blob.Digest.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	if got := digest.FromBytes(blob); got != r.Layers[0].DiffID || int64(len(blob)) != r.Layers[0].Blob.Size {
		t.Errorf("the blob is %s of %d bytes, the record says %+v", got, len(blob), r.Layers[0])
	}
	tr := tar.NewReader(bytes.NewReader(blob))
	hdr, err := tr.Next()
	if err != nil || hdr.Name != "plugin" {
		t.Errorf("the layer begins with %+v, %v", hdr, err)
	}
}

func TestIdenticalContentIsSharedAndOutlivesEither(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		a := add(t, s, "a:latest", small(t, "same"))
		b := add(t, s, "b:latest", small(t, "same"))
		if a.Layers[0].DiffID != b.Layers[0].DiffID {
			t.Fatalf("digests differ: %v %v", a.Layers, b.Layers)
		}
		if err := s.Delete(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := s.GC(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := readRootfs(t, s, b, "plugin"); got != "same" {
			t.Errorf("plugin holds %q", got)
		}
		wantClean(t, s)
	})
}

func pack(t testing.TB, body []byte, how string) []byte {
	t.Helper()
	var buf bytes.Buffer
	var w io.WriteCloser
	switch how {
	case "gzip":
		w = gzip.NewWriter(&buf)
	case "zstd":
		z, err := zstd.NewWriter(&buf)
		if err != nil {
			t.Fatal(err)
		}
		w = z
	default:
		return body
	}
	if _, err := w.Write(body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestPackingOfTheContextDoesNotMatter(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	var digests []digest.Digest
	for _, how := range []string{"plain", "gzip", "zstd"} {
		art := create(t, s, pack(t, small(t, "x"), how))
		digests = append(digests, art.Layers[0].DiffID)
		if err := art.Release(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if digests[0] != digests[1] || digests[0] != digests[2] {
		t.Errorf("digests differ: %v", digests)
	}
}

func TestFailedCreateLeavesNothing(t *testing.T) {
	good := archive(t, file{name: "rootfs/a", body: strings.Repeat("a", 1<<20)}, file{name: "config.json", body: "{}"})
	errCheck := errors.New("no such field")
	for name, tc := range map[string]struct {
		body  []byte
		check CheckConfig
		want  string
		class error
	}{
		"an empty body":           {nil, asIs, "no rootfs found: EOF", errdefs.ErrInvalidArgument},
		"no rootfs":               {archive(t, file{name: "config.json", body: "{}"}), asIs, "no rootfs found: EOF", errdefs.ErrInvalidArgument},
		"no config":               {archive(t, file{name: "rootfs/a"}), asIs, "config not found", errdefs.ErrInvalidArgument},
		"not a tar":               {bytes.Repeat([]byte("x"), 2048), asIs, "failed to read from tar: archive/tar: invalid tar header", errdefs.ErrInvalidArgument},
		"cut in a file":           {good[:1<<19], asIs, "failed to read from tar: unexpected EOF", errdefs.ErrInvalidArgument},
		"cut gzip":                {pack(t, good, "gzip")[:300], asIs, "failed to read from tar: unexpected EOF", errdefs.ErrInvalidArgument},
		"a refused config":        {good, func([]byte) ([]byte, error) { return nil, errCheck }, "no such field", errCheck},
		"a hard link to nowhere":  {archive(t, file{name: "rootfs/a", hdr: tar.Header{Typeflag: tar.TypeLink, Linkname: "rootfs/b"}}), asIs, `failed to read from tar: "a": hard link to "/b": no such file or directory`, errdefs.ErrInvalidArgument},
		"a hard link out of it":   {archive(t, file{name: "rootfs/a", hdr: tar.Header{Typeflag: tar.TypeLink, Linkname: "rootfs/../etc/shadow"}}), asIs, `failed to read from tar: hard link "rootfs/a" leads out of rootfs: "rootfs/../etc/shadow"`, errdefs.ErrInvalidArgument},
		"config is a directory":   {archive(t, file{name: "config.json/"}), asIs, "failed to read from tar: config.json is not a regular file", errdefs.ErrInvalidArgument},
		"config above its limit":  {archive(t, file{name: "config.json", body: strings.Repeat(" ", 1<<20+1)}), asIs, "failed to read from tar: archive exceeds the limit of 1048576 bytes in config.json", errdefs.ErrInvalidArgument},
		"wrong sum at gzip's end": {func() []byte { b := pack(t, good, "gzip"); b[len(b)-6] ^= 1; return b }(), asIs, "failed to read from tar: gzip: invalid checksum", errdefs.ErrInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			s := openStore(t, testutil.TempDir(t), Native)
			_, err := s.CreateFromContext(t.Context(), bytes.NewReader(tc.body), rootfs.Limits{}, tc.check)
			if err == nil || err.Error() != tc.want || !errors.Is(err, tc.class) {
				t.Errorf("got %v (%T), want %q of class %v", err, err, tc.want, tc.class)
			}
			wantEmpty(t, s)
		})
	}
}

func TestCreateThatIsCancelledLeavesNothing(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		ctx, cancel := context.WithCancel(t.Context())
		body := archive(t, file{name: "rootfs/a", body: strings.Repeat("a", 4<<20)}, file{name: "config.json", body: "{}"})
		r := io.MultiReader(bytes.NewReader(body[:2<<20]), readerFunc(func([]byte) (int, error) {
			cancel()
			return 0, ctx.Err()
		}))
		if _, err := s.CreateFromContext(ctx, r, rootfs.Limits{}, asIs); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		wantEmpty(t, s)
	})
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

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
			art.describe(r)
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
	if _, err := s.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantClean(t, s)
}

func TestWhatADeadDaemonLeftGoesWithTheFirstCollection(t *testing.T) {
	both(t, func(t *testing.T, s *Store) {
		root, snap := s.Root(), s.Snapshotter()
		create(t, s, small(t, "never added"))
		if _, err := s.Content().Writer(s.Context(t.Context())); err == nil {
			t.Fatal("a writer without a ref")
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{"tmp/half", "removing/half", "snapshots/" + snap + "/snapshots/new-1"} {
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

func TestSecondOpenNamesThePid(t *testing.T) {
	root := testutil.TempDir(t)
	openStore(t, root, Native)
	_, err := Open(t.Context(), Config{Root: root})
	want := fmt.Sprintf("root %s is in use by another daemon (pid %d)", root, os.Getpid())
	if !errdefs.IsUnavailable(err) || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	root := testutil.TempDir(t)
	s := openStore(t, root, Native)
	err := s.DB().Update(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketOutlet).Bucket(bucketMeta).Put(keyFormat, []byte{2})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Root: root}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "has format 2, this version of Outlet knows up to 1") {
		t.Errorf("got %v", err)
	}
}

func TestSnapshotterNeverChanges(t *testing.T) {
	root := testutil.TempDir(t)
	s := openStore(t, root, Native)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), Config{Root: root, Snapshotter: Overlay}); !errdefs.IsConflict(err) {
		t.Errorf("got %v", err)
	}
	s = openStore(t, root, "")
	if s.Snapshotter() != Native {
		t.Errorf("it is %s now", s.Snapshotter())
	}
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

func TestPluginDirIsRemovedButNotThroughAMount(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), Native)
	id := newID(t)
	dir, err := s.CreatePluginDir(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.RemovePluginDir(t.Context(), "../../etc"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
	for range 2 {
		if err := s.RemovePluginDir(t.Context(), id); err != nil {
			t.Error(err)
		}
	}
	wantEmpty(t, s)
}

// TestInAUserNamespace runs some of the tests again as the root of a user
// namespace, where overlay has other rules.
func TestInAUserNamespace(t *testing.T) {
	testutil.Need(t, testutil.UserNS)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^(TestCreateAddReadDelete|TestUpdate.*|TestIdentical.*|TestDevice.*)$")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestDevicesAreMadeByRootOnlyAndElseWarnedOf(t *testing.T) {
	s := openStore(t, testutil.TempDir(t), "")
	body := archive(t, file{name: "config.json", body: "{}"}, file{name: "rootfs/null", hdr: tar.Header{Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3}})
	art := create(t, s, body)
	warned := len(art.Warnings) == 1 && strings.HasPrefix(art.Warnings[0], "1 device nodes left out")
	if able := os.Geteuid() == 0 && !userns.RunningInUserNS(); able == warned || len(art.Warnings) > 1 {
		t.Errorf("root is able: %v, warnings: %q", able, art.Warnings)
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
