package volumes

import (
	"context"
	"encoding/json"
	"fmt"

	"go.etcd.io/bbolt"
)

// bucket has a record for each volume: its key is the name, its value JSON.
var bucket = []byte("volumes")

// format is the version of what is in the bucket. Readers refuse later ones.
const format = 1

// BoltStore is a [Store] in a bucket of a bbolt database, which may be used for
// other things too.
type BoltStore struct{ db Database }

// Database is what a [BoltStore] needs of a bbolt database.
type Database interface {
	View(f func(*bbolt.Tx) error) error
	Update(f func(*bbolt.Tx) error) error
}

// NewBoltStore returns a store in db, which stays its caller's to close.
func NewBoltStore(db Database) *BoltStore { return &BoltStore{db} }

type boltRecord struct {
	Format int
	Record
}

// All implements [Store].
func (b *BoltStore) All(context.Context) ([]Record, error) {
	var all []Record
	var bad UnreadableError
	err := b.db.View(func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucket)
		if records == nil {
			return nil
		}
		return records.ForEach(func(name, value []byte) error {
			r, err := decodeRecord(name, value)
			if err == nil {
				all = append(all, r)
				return nil
			}
			if bad.Names = append(bad.Names, string(name)); bad.Err == nil {
				bad.Err = err
			}
			return nil
		})
	})
	if err == nil && bad.Err != nil {
		err = &bad
	}
	return all, err
}

func decodeRecord(name, value []byte) (Record, error) {
	var r boltRecord
	if err := json.Unmarshal(value, &r); err != nil {
		return Record{}, err
	}
	if r.Format != format {
		return Record{}, fmt.Errorf("it is of format %d, known is %d", r.Format, format)
	}
	if r.Name != string(name) || r.Driver == "" {
		return Record{}, fmt.Errorf("it is one of volume %q of driver %q", r.Name, r.Driver)
	}
	return r.Record, nil
}

// Save implements [Store].
func (b *BoltStore) Save(_ context.Context, r Record) error {
	value, err := json.Marshal(boltRecord{format, r})
	if err != nil {
		return err
	}
	return b.db.Update(func(tx *bbolt.Tx) error {
		records, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		return records.Put([]byte(r.Name), value)
	})
}

// Delete implements [Store].
func (b *BoltStore) Delete(_ context.Context, name string) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		records := tx.Bucket(bucket)
		if records == nil {
			return nil
		}
		return records.Delete([]byte(name))
	})
}
