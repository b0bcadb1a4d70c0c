package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/errdefs"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/rootfs"
)

// Repair mends what [Store.Check] reported, as far as that loses nothing: it
// removes what nothing refers to and builds the index of names anew. Damaged
// records and what records miss it leaves alone. Whether something is still
// wrong is looked at again before it is touched, so operations may be under way.
// Another Check tells what is left.
func (s *Store) Repair(ctx context.Context, r Report) error {
	var errs []error
	collect, index := false, false
	for _, p := range r.Problems {
		switch p.Kind {
		case OrphanBlob, OrphanSnapshot:
			collect = true
		case OrphanDirectory:
			if filepath.Dir(p.Subject) == filepath.Join(s.root, "plugins") {
				errs = append(errs, s.removeStrayDir(ctx, filepath.Base(p.Subject)))
			} else {
				collect = true
			}
		case OrphanLease:
			errs = append(errs, s.dropStrayLease(ctx, p.Subject))
			collect = true
		case DamagedIndex:
			index = true
		case DamagedRecord, MissingBlob, MissingRootfs:
		}
	}
	if index {
		errs = append(errs, s.rebuildIndex(ctx))
	}
	if collect {
		s.sweepAgain(ctx)
		_, err := s.GC(ctx)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeStrayDir removes plugins/<name> if it is of no plugin. A plugin's record
// is written before its directory is made, and no id is used twice.
func (s *Store) removeStrayDir(ctx context.Context, name string) error {
	known := false
	err := s.db.View(func(tx *bbolt.Tx) error {
		known = recordBucket(tx).Get([]byte(name)) != nil
		return nil
	})
	if err != nil || known {
		return err
	}
	dir := filepath.Join(s.root, "plugins", name)
	if err := rootfs.Unmount(ctx, dir); err != nil {
		return fmt.Errorf("remove the directory of a plugin that is gone: %w", err)
	}
	return durable.RemoveAll(dir)
}

// cleanPluginDirs removes the directories of plugins there are no records of:
// the removal of those was interrupted. A directory that cannot be removed is
// logged and stays; [Store.Check] goes on reporting it.
func (s *Store) cleanPluginDirs(ctx context.Context) error {
	entries, err := os.ReadDir(filepath.Join(s.root, "plugins"))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if err := s.removeStrayDir(ctx, e.Name()); err != nil {
			s.log.WarnContext(ctx, "remove what a removed plugin left", "path", e.Name(), "err", err)
		}
	}
	return nil
}

// dropStrayLease ends the lease of a plugin that does not exist.
func (s *Store) dropStrayLease(ctx context.Context, lease string) error {
	id, ok := strings.CutPrefix(lease, pluginLease)
	if !ok {
		return nil
	}
	return s.meta.Update(func(tx *bbolt.Tx) error {
		if recordBucket(tx).Get([]byte(id)) != nil {
			return nil
		}
		err := s.leases.Delete(boltutil.WithTransaction(s.Context(ctx), tx), leases.Lease{ID: lease})
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// rebuildIndex makes the index of names that of the records. Names of damaged
// records, which only the index knows, stay.
func (s *Store) rebuildIndex(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.meta.Update(func(tx *bbolt.Tx) error {
		want := map[string]string{}
		damaged := map[string]bool{}
		err := recordBucket(tx).ForEach(func(id, b []byte) error {
			if r, err := decodeRecord(id, b); err == nil {
				want[r.Name] = r.ID
			} else {
				damaged[string(id)] = true
			}
			return nil
		})
		if err != nil {
			return err
		}
		for id, name := range namesByID(tx) {
			if _, taken := want[name]; !taken && damaged[id] {
				want[name] = id
			}
		}
		top := tx.Bucket(bucketOutlet)
		if err := top.DeleteBucket(bucketNames); err != nil {
			return err
		}
		names, err := top.CreateBucket(bucketNames)
		if err != nil {
			return err
		}
		for name, id := range want {
			if err := names.Put([]byte(name), []byte(id)); err != nil {
				return err
			}
		}
		return nil
	})
}

// sweepAgain makes the next collection compare the files with the database.
func (s *Store) sweepAgain(ctx context.Context) {
	select {
	case s.collector <- struct{}{}:
		s.swept = false
		<-s.collector
	case <-ctx.Done():
	}
}
