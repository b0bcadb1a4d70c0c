package store

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/sirupsen/logrus"
	"go.etcd.io/bbolt"

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
	return archive(t, file{name: "config.json", body: `{"Description":"small","rootfs":{"type":"x"}}`}, file{name: "rootfs/"}, file{name: "rootfs/plugin", body: content})
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
