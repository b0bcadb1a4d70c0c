package store

import (
	"context"
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/rootfs"
)

// PluginDir is the directory of a plugin's own things beside its root
// filesystem (propagated mount, logs): <root>/plugins/<id>. id is one of a
// record.
func (s *Store) PluginDir(id string) string { return filepath.Join(s.root, "plugins", id) }

// CreatePluginDir makes [Store.PluginDir] if it is missing, durably, and
// returns it.
func (s *Store) CreatePluginDir(ctx context.Context, id string) (string, error) {
	if err := checkID(id); err != nil {
		return "", err
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	dir := s.PluginDir(id)
	if err := durable.Mkdir(dir, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
		return dir, err
	}
	// Also if it was there: who made it may have died before this. It costs
	// nothing where there is nothing to write.
	return dir, durable.SyncDir(filepath.Dir(dir))
}

// RemovePluginDir removes [Store.PluginDir] with all it holds; it succeeds if
// there is none. It refuses with errdefs.ErrFailedPrecondition while something
// is mounted below it. A removal that was interrupted is finished by [Open].
func (s *Store) RemovePluginDir(ctx context.Context, id string) error {
	if err := checkID(id); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := s.PluginDir(id)
	mounted, err := rootfs.Mounted(dir)
	if err != nil {
		return err
	}
	if mounted {
		return outlet.Errorf(errdefs.ErrFailedPrecondition, "remove %s: something is mounted in it", dir)
	}
	gone := filepath.Join(s.root, "removing", id+"-"+rand.Text())
	err = durable.Rename(dir, gone)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = durable.SyncDir(filepath.Dir(dir))
	}
	if err != nil {
		return err
	}
	return durable.RemoveAll(gone)
}
