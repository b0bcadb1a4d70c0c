package durable

import (
	"go.etcd.io/bbolt"
)

// Op says what kind of thing a library is called for.
type Op string

// What libraries are called for.
const (
	Mount    Op = "mount"    // mounting
	Snapshot Op = "snapshot" // preparing, committing, removing a snapshot
	Blob     Op = "blob"     // writing, committing, deleting a blob
	Collect  Op = "collect"  // a garbage collection
	Runtime  Op = "runtime"  // starting, finding, signalling, removing a container
	Leases   Op = "lease"    // ending a lease
)

// Do calls f, which does op to subject by way of a library.
func Do(op Op, subject string, f func() error) error { return at(string(op), subject, f) }

// Call is [Do] for what has a result.
func Call[T any](op Op, subject string, f func() (T, error)) (T, error) {
	return call(string(op), subject, f)
}

// Lease returns with, which makes what comes hold something. A build with
// failpoints can be told to leave a lease out, and then it is without.
func Lease[T any](with, without T) T { return leased(with, without) }

// call is at for what has a result.
func call[T any](op, subject string, f func() (T, error)) (T, error) {
	var v T
	err := at(op, subject, func() (err error) {
		v, err = f()
		return err
	})
	return v, err
}

// DB is a bbolt database whose commits go through this package.
type DB struct{ *bbolt.DB }

// Open is bbolt.Open.
func Open(name string, o *bbolt.Options) (*DB, error) {
	return call("open database", name, func() (*DB, error) {
		if o == nil {
			o = bbolt.DefaultOptions
		}
		o := *o
		o.NoSync = o.NoSync || unsynced()
		db, err := bbolt.Open(name, 0o600, &o)
		if err != nil {
			return nil, err
		}
		return &DB{db}, nil
	})
}

// Update is bbolt's: it ends durably or changes nothing.
func (d *DB) Update(f func(*bbolt.Tx) error) error {
	return at("commit", "database", func() error { return d.DB.Update(f) })
}
