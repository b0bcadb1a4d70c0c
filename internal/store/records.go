package store

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"regexp"
	"slices"
	"time"

	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/metadata/boltutil"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/durable"
	"github.com/outletd/outlet/internal/rootfs"
)

var validID = regexp.MustCompile(`^[0-9a-f]{64}$`)

func checkID(id string) error {
	if !validID.MatchString(id) {
		return outlet.Errorf(errdefs.ErrInvalidArgument, "%q is not a plugin id", id)
	}
	return nil
}

// decodeRecord reads what is stored under id.
func decodeRecord(id, b []byte) (Record, error) {
	var head struct{ Version int }
	if err := json.Unmarshal(b, &head); err != nil {
		return Record{}, outlet.Errorf(errdefs.ErrDataLoss, "record of plugin %s: %w", id, err)
	}
	if head.Version < 1 || head.Version > recordVersion {
		return Record{}, outlet.Errorf(errdefs.ErrDataLoss, "record of plugin %s has version %d, this version of Outlet knows up to %d", id, head.Version, recordVersion)
	}
	var r Record
	if err := json.Unmarshal(b, &r); err != nil {
		return Record{}, outlet.Errorf(errdefs.ErrDataLoss, "record of plugin %s: %w", id, err)
	}
	if r.ID != string(id) || r.Name == "" {
		return Record{}, outlet.Errorf(errdefs.ErrDataLoss, "record of plugin %s: it says it is %q with the name %q", id, r.ID, r.Name)
	}
	return r, nil
}

// Records returns all records sorted by name, and those that cannot be read.
func (s *Store) Records(ctx context.Context) (records []Record, damaged []Damaged, err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		records, damaged, err = readRecords(tx)
		return err
	})
	slices.SortFunc(records, func(a, b Record) int { return cmp.Compare(a.Name, b.Name) })
	return records, damaged, err
}

func readRecords(tx *bbolt.Tx) (records []Record, damaged []Damaged, err error) {
	names := namesByID(tx)
	err = recordBucket(tx).ForEach(func(id, b []byte) error {
		r, err := decodeRecord(id, b)
		if err != nil {
			damaged = append(damaged, Damaged{ID: string(id), Name: names[string(id)], Err: err})
			return nil //nolint:nilerr // reported as damaged
		}
		records = append(records, r)
		return nil
	})
	return records, damaged, err
}

// Get returns the record of a plugin's full id; errdefs.ErrNotFound if there is
// none, errdefs.ErrDataLoss if it cannot be read.
func (s *Store) Get(ctx context.Context, id string) (r Record, err error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	err = s.db.View(func(tx *bbolt.Tx) error {
		r, err = getRecord(tx, id)
		return err
	})
	return r, err
}

// Add stores the record of a new plugin whose content is art, prepares its
// writable root filesystem, and makes the record the owner of both. It returns
// the record as stored: Version, Generation (1), Rootfs, ConfigDigest, Layers
// and Manifest are set by it, and CreatedAt if it is zero. A taken name is
// errdefs.ErrAlreadyExists. If Add fails nothing refers to what it made, which
// the next [Store.GC] removes, and art stays until [Artifact.Release]; else art
// is released.
func (s *Store) Add(ctx context.Context, r Record, art *Artifact) (Record, error) {
	if err := checkID(r.ID); err != nil {
		return Record{}, err
	}
	if r.Name == "" {
		return Record{}, outlet.Errorf(errdefs.ErrInvalidArgument, "a plugin without a name")
	}
	// Cheap to know now; decided below.
	if err := s.db.View(func(tx *bbolt.Tx) error { return checkName(tx, r.Name, "") }); err != nil {
		return Record{}, err
	}
	r.Generation = 1
	if r.CreatedAt.IsZero() {
		r.CreatedAt = time.Now().UTC()
	}
	art.Describe(&r)
	add := s.addInTurn
	if s.snap == Overlay {
		if resume, ok := s.tryPauseCollector(); ok {
			defer resume()
			add = s.addAtOnce
		}
	}
	if err := add(ctx, &r, art); err != nil {
		return Record{}, err
	}
	return s.Get(context.WithoutCancel(ctx), r.ID)
}

// addAtOnce prepares the root filesystem within the transaction of the record,
// which takes a third of the syncs. Nobody else can write meanwhile, so that must
// be quick, and the collector be paused.
func (s *Store) addAtOnce(ctx context.Context, r *Record, art *Artifact) error {
	err := s.meta.Update(func(tx *bbolt.Tx) (err error) {
		r.Rootfs, err = s.PrepareRootfs(boltutil.WithTransaction(ctx, tx), art, r.ID, r.Generation)
		if err != nil {
			return err
		}
		return s.addRecord(ctx, tx, r, art)
	})
	if err != nil {
		// The transaction is undone, what the snapshotter made is not.
		s.failed.Store(true)
	}
	return err
}

// addInTurn is addAtOnce for all snapshotters and times.
func (s *Store) addInTurn(ctx context.Context, r *Record, art *Artifact) (err error) {
	if r.Rootfs, err = s.PrepareRootfs(ctx, art, r.ID, r.Generation); err != nil {
		return err
	}
	if err := s.meta.Update(func(tx *bbolt.Tx) error { return s.addRecord(ctx, tx, r, art) }); err != nil {
		return errors.Join(err, s.snapshots().Remove(art.context(context.WithoutCancel(ctx)), r.Rootfs))
	}
	return nil
}

// addRecord writes a new record, which from then on holds what art held.
func (s *Store) addRecord(ctx context.Context, tx *bbolt.Tx, r *Record, art *Artifact) error {
	if recordBucket(tx).Get([]byte(r.ID)) != nil {
		return outlet.Errorf(errdefs.ErrAlreadyExists, "plugin %s already exists", r.ID)
	}
	if err := s.putRecord(ctx, tx, r, ""); err != nil {
		return err
	}
	ctx = boltutil.WithTransaction(s.Context(ctx), tx)
	err := durable.Do(durable.Leases, art.lease, func() error { return s.leases.Delete(ctx, leases.Lease{ID: art.lease}) })
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}

// Update changes a record: change is given the record as it is and what it
// leaves is stored, in one transaction, if it returns nil. It must not call the
// store. ID cannot be changed. What the record names from then on must be held
// by an [Artifact] until Update returns; blobs and root filesystems it no longer
// names are removed by the next [Store.GC].
func (s *Store) Update(ctx context.Context, id string, change func(*Record) error) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	err := s.meta.Update(func(tx *bbolt.Tx) error {
		r, err := getRecord(tx, id)
		if err != nil {
			return err
		}
		name := r.Name
		if err := change(&r); err != nil {
			return err
		}
		if r.ID != id || r.Name == "" {
			return outlet.Errorf(errdefs.ErrInvalidArgument, "the id of plugin %s cannot be changed", id)
		}
		return s.putRecord(ctx, tx, &r, name)
	})
	if err != nil {
		return Record{}, err
	}
	return s.Get(context.WithoutCancel(ctx), id)
}

// Delete removes a record, readable or not; errdefs.ErrNotFound if there is
// none. What it held is removed by the next [Store.GC]: its root filesystem
// must not be mounted any more.
func (s *Store) Delete(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.meta.Update(func(tx *bbolt.Tx) error {
		b := recordBucket(tx)
		if b.Get([]byte(id)) == nil {
			return outlet.Errorf(errdefs.ErrNotFound, "plugin %s", id)
		}
		if err := b.Delete([]byte(id)); err != nil {
			return err
		}
		if name, ok := namesByID(tx)[id]; ok {
			if err := nameBucket(tx).Delete([]byte(name)); err != nil {
				return err
			}
		}
		ctx := boltutil.WithTransaction(s.Context(ctx), tx)
		err := durable.Do(durable.Leases, pluginLease+id, func() error {
			return s.leases.Delete(ctx, leases.Lease{ID: pluginLease + id})
		})
		if errdefs.IsNotFound(err) {
			return nil
		}
		return err
	})
}

// putRecord writes r, its name in the place of old, and its lease.
func (s *Store) putRecord(ctx context.Context, tx *bbolt.Tx, r *Record, old string) error {
	r.Version = recordVersion
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if r.Name != old {
		if err := checkName(tx, r.Name, r.ID); err != nil {
			return err
		}
		if old != "" {
			if err := nameBucket(tx).Delete([]byte(old)); err != nil {
				return err
			}
		}
		if err := nameBucket(tx).Put([]byte(r.Name), []byte(r.ID)); err != nil {
			return err
		}
	}
	if err := recordBucket(tx).Put([]byte(r.ID), b); err != nil {
		return err
	}
	return s.putLease(boltutil.WithTransaction(s.Context(ctx), tx), r)
}

// putLease makes the lease of r hold what r names and nothing else.
func (s *Store) putLease(ctx context.Context, r *Record) error {
	l := leases.Lease{ID: pluginLease + r.ID}
	_, err := s.leases.Create(ctx, leases.WithID(l.ID))
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return err
	}
	held, err := s.leases.ListResources(ctx, l)
	if err != nil {
		return err
	}
	wanted := durable.Lease(s.resources(r), nil)
	for _, res := range wanted {
		if !slices.Contains(held, res) {
			if err := s.leases.AddResource(ctx, l, res); err != nil {
				return err
			}
		}
	}
	for _, res := range held {
		if !slices.Contains(wanted, res) {
			if err := s.leases.DeleteResource(ctx, l, res); err != nil {
				return err
			}
		}
	}
	return nil
}

// resources are what a record needs to be kept, each once.
func (s *Store) resources(r *Record) []leases.Resource {
	var res []leases.Resource
	add := func(id, kind string) {
		if one := (leases.Resource{ID: id, Type: kind}); id != "" && !slices.Contains(res, one) {
			res = append(res, one)
		}
	}
	for _, v := range r.withPrevious() {
		add(v.ConfigDigest.String(), "content")
		if v.Manifest != nil {
			add(v.Manifest.Digest.String(), "content")
		}
		diffIDs := make([]digest.Digest, 0, len(v.Layers))
		for _, l := range v.Layers {
			add(l.Blob.Digest.String(), "content")
			diffIDs = append(diffIDs, l.DiffID)
		}
		if len(diffIDs) > 0 {
			add(rootfs.ChainID(diffIDs), "snapshots/"+s.snap)
		}
		add(v.Rootfs, "snapshots/"+s.snap)
	}
	return res
}

func recordBucket(tx *bbolt.Tx) *bbolt.Bucket {
	return tx.Bucket(bucketOutlet).Bucket(bucketRecords)
}

func nameBucket(tx *bbolt.Tx) *bbolt.Bucket { return tx.Bucket(bucketOutlet).Bucket(bucketNames) }

func getRecord(tx *bbolt.Tx, id string) (Record, error) {
	b := recordBucket(tx).Get([]byte(id))
	if b == nil {
		return Record{}, outlet.Errorf(errdefs.ErrNotFound, "plugin %s", id)
	}
	return decodeRecord([]byte(id), b)
}

// checkName fails if name belongs to another plugin than id.
func checkName(tx *bbolt.Tx, name, id string) error {
	if owner := nameBucket(tx).Get([]byte(name)); owner != nil && string(owner) != id {
		return outlet.Errorf(errdefs.ErrAlreadyExists, "plugin %s already exists", name)
	}
	return nil
}

func namesByID(tx *bbolt.Tx) map[string]string {
	names := map[string]string{}
	_ = nameBucket(tx).ForEach(func(name, id []byte) error {
		names[string(id)] = string(name)
		return nil
	})
	return names
}
