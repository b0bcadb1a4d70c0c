package volumes_test

import (
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/volumes"
)

var allVolumes = outlet.VolumeFilter{}

func newVolume(name string) outlet.VolumeCreate {
	return outlet.VolumeCreate{Name: name, Driver: "a"}
}

func TestBoltStore(t *testing.T) {
	ctx := t.Context()
	path := filepath.Join(t.TempDir(), "db")
	open := func() (*bbolt.DB, *volumes.BoltStore) {
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		return db, volumes.NewBoltStore(db)
	}
	db, s := open()
	if all, err := s.All(ctx); err != nil || len(all) != 0 {
		t.Errorf("new: %v, %v", all, err)
	}
	if err := s.Delete(ctx, "nothing"); err != nil {
		t.Errorf("delete what is not there: %v", err)
	}
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	full := volumes.Record{
		Name: "a/b", Driver: "x:latest", Created: true, CreatedAt: now,
		Options: map[string]string{"o": "1"}, Labels: map[string]string{"l": ""},
		Mounts: []volumes.Mount{{ID: "i", Since: now, Mountpoint: "/m", Instance: "run"}, {ID: "j", Since: now, Pending: true}},
	}
	small := volumes.Record{Name: "b", Driver: "y", Created: true}
	for _, r := range []volumes.Record{small, {Name: "a/b", Driver: "old"}, full, {Name: "c", Driver: "z"}} {
		if err := s.Save(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Delete(ctx, "c"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db, s = open()
	defer db.Close()
	all, err := s.All(ctx)
	if diff := cmp.Diff([]volumes.Record{full, small}, all); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}

	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket([]byte("volumes"))
		return errors.Join(
			b.Put([]byte("broken"), []byte("{")),
			b.Put([]byte("future"), []byte(`{"Format":2,"Name":"future","Driver":"x"}`)),
			b.Put([]byte("other"), []byte(`{"Format":1,"Name":"b","Driver":"x"}`)),
			b.Put([]byte("nobody"), []byte(`{"Format":1,"Name":"nobody"}`)),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	all, err = s.All(ctx)
	var bad *volumes.UnreadableError
	if len(all) != 2 || !errors.As(err, &bad) || !slices.Equal(bad.Names, []string{"broken", "future", "nobody", "other"}) {
		t.Errorf("%+v, %v", all, err)
	}
	svc, err := volumes.Open(ctx, volumes.Config{Plugins: newHost(), Store: s})
	if err != nil {
		t.Fatalf("a record that cannot be read keeps the daemon from starting: %v", err)
	}
	if l, err := svc.List(ctx, allVolumes); err != nil || len(l.Volumes) != 2 || len(l.Warnings) != 2 {
		t.Errorf("%+v, %v", l, err)
	}
}

func TestOpenNeedsItsParts(t *testing.T) {
	if _, err := volumes.Open(t.Context(), volumes.Config{Plugins: newHost()}); err == nil {
		t.Error("it works without a store")
	}
	if _, err := volumes.Open(t.Context(), volumes.Config{Store: volumes.NewBoltStore(nil)}); err == nil {
		t.Error("it works without plugins")
	}
}
