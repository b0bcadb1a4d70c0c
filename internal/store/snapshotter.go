package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/storage"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay"
	"github.com/containerd/containerd/v2/plugins/snapshots/overlay/overlayutils"
	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/rootfs"
)

// The snapshotters a store can use.
const (
	Overlay = "overlayfs" // shares layers, needs mounts
	Native  = "native"    // copies layers, needs nothing
)

// formatVersion is the version of all that is on disk (docs/format.md). It goes
// up when an older Outlet must not open what a newer one wrote.
const formatVersion = 1

var (
	bucketOutlet  = []byte("outlet")
	bucketMeta    = []byte("meta")
	bucketRecords = []byte("records")
	bucketNames   = []byte("names")

	keyFormat      = []byte("format")
	keySnapshotter = []byte("snapshotter")
)

// openSnapshotter checks the format of the root, decides which snapshotter it
// uses, writes down both, and opens it. A root never changes its snapshotter:
// what one wrote the other cannot read.
func (s *Store) openSnapshotter(ctx context.Context, wanted string) error {
	if wanted != "" && wanted != Overlay && wanted != Native {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "snapshotter %q: it can be %s or %s", wanted, Overlay, Native)
	}
	recorded, err := s.readMeta()
	if err != nil {
		return err
	}
	if recorded != "" && wanted != "" && recorded != wanted {
		return outlet.Errorf(errdefs.ErrConflict, "root %s was made with the snapshotter %s and cannot be used with %s", s.root, recorded, wanted)
	}
	if recorded != "" {
		wanted = recorded
	}
	if s.snap, err = s.choose(wanted); err != nil {
		return err
	}
	if recorded == "" {
		if err := s.writeMeta(); err != nil {
			return err
		}
	}
	dir := filepath.Join(s.root, "snapshots", s.snap)
	if err := s.cleanSnapshots(ctx, dir); err != nil {
		return fmt.Errorf("clean the %s snapshotter: %w", s.snap, err)
	}
	var sn snapshots.Snapshotter
	if s.snap == Overlay {
		sn, err = overlay.NewSnapshotter(dir, overlay.AsynchronousRemove)
	} else {
		sn, err = native.NewSnapshotter(dir)
	}
	if err != nil {
		return fmt.Errorf("open the %s snapshotter: %w", s.snap, err)
	}
	s.backend = &countingSnapshotter{Snapshotter: sn, failed: &s.failed}
	return nil
}

// cleanSnapshots removes the directories a snapshotter had not finished making
// or removing when its process ended. Left alone, one whose number was not yet
// written down makes the next snapshot of that number fail. The snapshotter must
// not be open.
func (s *Store) cleanSnapshots(ctx context.Context, dir string) error {
	entries, err := os.ReadDir(filepath.Join(dir, "snapshots"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // a new root
	}
	if err != nil {
		return err
	}
	known, err := snapshotNumbers(ctx, filepath.Join(dir, "metadata.db"))
	lost := errors.Is(err, fs.ErrNotExist)
	if err != nil && !lost {
		return err
	}
	for _, e := range entries {
		if _, ok := known[e.Name()]; ok {
			continue
		}
		if lost && !strings.HasPrefix(e.Name(), "new-") {
			continue // nothing tells what it is; who lost the file may still have it
		}
		s.log.InfoContext(ctx, "remove a directory that is no snapshot", "path", filepath.Join(dir, "snapshots", e.Name()))
		if err := durable.RemoveAll(filepath.Join(dir, "snapshots", e.Name())); err != nil {
			return err
		}
	}
	return nil
}

// snapshotNumbers reads the names of the directories a snapshotter knows from
// its database.
func snapshotNumbers(ctx context.Context, database string) (known map[string]string, err error) {
	if _, err := os.Stat(database); err != nil {
		return nil, err
	}
	ms, err := storage.NewMetaStore(database)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, ms.Close()) }()
	err = ms.WithTransaction(ctx, false, func(ctx context.Context) error {
		known, err = storage.IDMap(ctx)
		return err
	})
	if errdefs.IsNotFound(err) { // it never had one
		err = nil
	}
	return known, err
}

func (s *Store) choose(wanted string) (string, error) {
	if wanted == Native {
		return Native, nil
	}
	err := probeOverlay(filepath.Join(s.root, "tmp"))
	if err == nil {
		return Overlay, nil
	}
	if wanted == Overlay {
		return "", outlet.Errorf(errdefs.ErrUnavailable, "root %s uses the snapshotter %s, which does not work here: %w", s.root, Overlay, err)
	}
	s.log.Info("overlay does not work here, layers are copied", "snapshotter", Native, "reason", err)
	return Native, nil
}

// readMeta checks the format and returns the snapshotter; "" for a new root.
func (s *Store) readMeta() (snapshotter string, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketOutlet)
		if b != nil {
			b = b.Bucket(bucketMeta)
		}
		if b == nil {
			return nil
		}
		version, n := binary.Uvarint(b.Get(keyFormat))
		if n <= 0 {
			return outlet.Errorf(errdefs.ErrDataLoss, "root %s: its format cannot be read", s.root)
		}
		if version > formatVersion {
			return outlet.Errorf(errdefs.ErrConflict, "root %s has format %d, this version of Outlet knows up to %d; use a newer one", s.root, version, formatVersion)
		}
		snapshotter = string(b.Get(keySnapshotter))
		return nil
	})
	return snapshotter, err
}

func (s *Store) writeMeta() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		top, err := tx.CreateBucketIfNotExists(bucketOutlet)
		if err != nil {
			return err
		}
		for _, name := range [][]byte{bucketRecords, bucketNames} {
			if _, err := top.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		b, err := top.CreateBucketIfNotExists(bucketMeta)
		if err != nil {
			return err
		}
		if err := b.Put(keyFormat, binary.AppendUvarint(nil, formatVersion)); err != nil {
			return err
		}
		return b.Put(keySnapshotter, []byte(s.snap))
	})
}

// probeOverlay mounts an overlay below dir and does with it what layers do:
// write, remove what is in a lower directory, and put a directory in its place.
func probeOverlay(dir string) (err error) {
	if strings.ContainsAny(dir, ":,\\") {
		return fmt.Errorf("the path %s has a character that overlay options cannot hold", dir)
	}
	tmp, err := durable.MkdirTemp(dir, "probe-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, durable.RemoveAll(tmp)) }()
	at := func(elem ...string) string { return filepath.Join(append([]string{tmp}, elem...)...) }
	for _, d := range []string{"lower/gone", "base", "upper", "work", "merged"} {
		if err := durable.MkdirAll(at(d), 0o755); err != nil {
			return err
		}
	}
	options := []string{"lowerdir=" + at("lower") + ":" + at("base"), "upperdir=" + at("upper"), "workdir=" + at("work")}
	userXattr, err := overlayutils.NeedsUserXAttr(tmp)
	if err != nil {
		return err
	}
	if userXattr {
		options = append(options, "userxattr")
	}
	m := mount.Mount{Type: "overlay", Source: "overlay", Options: options}
	if err := durable.Do(durable.Mount, at("merged"), func() error { return m.Mount(at("merged")) }); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	defer func() { err = errors.Join(err, durable.Unmount(at("merged"), 0)) }()
	if err := durable.Remove(at("merged", "gone")); err != nil {
		return err
	}
	return durable.Mkdir(at("merged", "gone"), 0o755)
}

// syncPrepared makes a writable root filesystem durable that was just prepared.
func (s *Store) syncPrepared(mounts []mount.Mount) error {
	if dir, ok := rootfs.BindSource(mounts); ok && s.snap == Native {
		return rootfs.Sync(dir)
	}
	// With overlay it is two empty directories. Those above may be new too.
	for _, dir := range upperDirs(mounts) {
		for d := dir; d != s.root; d = filepath.Dir(d) {
			if err := durable.SyncDir(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// upperDirs are the directories below the snapshotter that mounts write to.
func upperDirs(mounts []mount.Mount) []string {
	var dirs []string
	for _, m := range mounts {
		if m.Type == "bind" {
			dirs = append(dirs, m.Source)
		}
		for _, o := range m.Options {
			if dir, ok := strings.CutPrefix(o, "upperdir="); ok {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}
