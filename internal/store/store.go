package store

import (
	"context"
	"log/slog"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"
)

// The snapshotters a store can use.
const (
	Overlay = "overlayfs" // shares layers, needs mounts
	Native  = "native"    // copies layers, needs nothing
)

// Config says where a store is and how it works.
type Config struct {
	// Root is the directory of the store, an absolute path; made if missing.
	Root string
	// Snapshotter is Overlay, Native, or "": what the root was made with, and
	// for a new root overlay if it works here, else native.
	Snapshotter string
	// Logger is told of what was cleaned up; nil discards.
	Logger *slog.Logger
}

// Store is an open root. All methods are safe for concurrent use. What they
// return shares nothing with the store.
type Store struct {
	root string
	snap string
	db   *bbolt.DB
}

// Open locks the root, opens its database, removes what an interrupted
// operation left in its temporary places, and drops the leases of operations
// that died with their daemon (run [Store.GC] once the daemon serves, to remove
// what they held).
//
// A root another process holds is errdefs.ErrUnavailable and the text names its
// pid; a root of a newer format, or made with another snapshotter than the one
// asked for, is errdefs.ErrConflict; a snapshotter that does not work here is
// errdefs.ErrUnavailable.
func Open(ctx context.Context, cfg Config) (*Store, error) { return nil, errdefs.ErrNotImplemented }

// Close closes the store and unlocks the root. Operations under way fail.
func (s *Store) Close() error { return errdefs.ErrNotImplemented }

// Root is the directory of the store.
func (s *Store) Root() string { return s.root }

// Snapshotter is the one in use, [Overlay] or [Native].
func (s *Store) Snapshotter() string { return s.snap }

// DB is the database of the store, for buckets of others (their names must not
// begin with "outlet" or "v1"). It is closed by [Store.Close].
func (s *Store) DB() *bbolt.DB { return s.db }

// Context returns ctx with the namespace that containerd's interfaces
// ([Store.Content]) ask for.
func (s *Store) Context(ctx context.Context) context.Context { return ctx }

// Content is the store's blobs; use it with [Store.Context]. Blobs that no lease
// names are removed by [Store.GC].
func (s *Store) Content() content.Store { return nil }

// Records returns all records sorted by name, and those that cannot be read.
func (s *Store) Records(ctx context.Context) ([]Record, []Damaged, error) {
	return nil, nil, errdefs.ErrNotImplemented
}

// Get returns the record of a plugin's full id; errdefs.ErrNotFound if there is
// none, errdefs.ErrDataLoss if it cannot be read.
func (s *Store) Get(ctx context.Context, id string) (Record, error) {
	return Record{}, errdefs.ErrNotImplemented
}

// Add stores the record of a new plugin whose content is art, prepares its
// writable root filesystem, and makes the record the owner of both. It returns
// the record as stored: Version, Generation (1), Rootfs, ConfigDigest and
// Layers are set by it, and so is Manifest if art has one. A taken name is
// errdefs.ErrAlreadyExists. If Add fails nothing of it is left; art stays until
// [Artifact.Release].
func (s *Store) Add(ctx context.Context, r Record, art *Artifact) (Record, error) {
	return Record{}, errdefs.ErrNotImplemented
}

// Update changes a record: change is given the record as it is and what it
// leaves is stored, in one transaction, if it returns nil. It must not call the
// store. ID cannot be changed. Blobs and root filesystems the record no longer
// names are removed by the next [Store.GC].
func (s *Store) Update(ctx context.Context, id string, change func(*Record) error) (Record, error) {
	return Record{}, errdefs.ErrNotImplemented
}

// Delete removes a record, readable or not; errdefs.ErrNotFound if there is
// none. What it held is removed by the next [Store.GC]: its root filesystem
// must not be mounted any more.
func (s *Store) Delete(ctx context.Context, id string) error { return errdefs.ErrNotImplemented }

// RootfsMounts returns what to mount ([rootfs.Mount]) to get the root
// filesystem of the key [Record.Rootfs].
func (s *Store) RootfsMounts(ctx context.Context, key string) ([]mount.Mount, error) {
	return nil, errdefs.ErrNotImplemented
}

// RootfsDir returns the directory that is the root filesystem of the key, for
// where nothing can be mounted: only the native snapshotter has one, with
// another it is errdefs.ErrNotImplemented.
func (s *Store) RootfsDir(ctx context.Context, key string) (string, error) {
	return "", errdefs.ErrNotImplemented
}

// PluginDir is the directory of a plugin's own things beside its root
// filesystem (propagated mount, logs): <root>/plugins/<id>.
func (s *Store) PluginDir(id string) string { return "" }

// CreatePluginDir makes [Store.PluginDir] if it is missing, durably, and
// returns it.
func (s *Store) CreatePluginDir(ctx context.Context, id string) (string, error) {
	return "", errdefs.ErrNotImplemented
}

// RemovePluginDir removes [Store.PluginDir] with all it holds. It refuses with
// errdefs.ErrFailedPrecondition while something is mounted below it. A removal
// that was interrupted is finished by [Open].
func (s *Store) RemovePluginDir(ctx context.Context, id string) error {
	return errdefs.ErrNotImplemented
}
