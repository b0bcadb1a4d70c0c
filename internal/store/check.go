package store

import (
	"context"

	"github.com/containerd/errdefs"
)

// Report is what [Store.Check] found.
type Report struct {
	Problems []Problem
}

// Problem is one thing on disk that should not be so.
type Problem struct {
	// Kind is one of the Problem constants.
	Kind ProblemKind
	// Subject is a plugin id, a digest, a snapshot's key or a path.
	Subject string
	Detail  string
}

// ProblemKind classes the problems.
type ProblemKind string

// The kinds of problems.
const (
	DamagedRecord   ProblemKind = "damaged record"   // cannot be read
	DamagedIndex    ProblemKind = "damaged index"    // the index of names is not that of the records
	MissingBlob     ProblemKind = "missing blob"     // a record names it
	MissingRootfs   ProblemKind = "missing rootfs"   // a record names it
	OrphanBlob      ProblemKind = "orphan blob"      // a file nothing names
	OrphanSnapshot  ProblemKind = "orphan snapshot"  // nothing names it
	OrphanDirectory ProblemKind = "orphan directory" // of a plugin that does not exist, or of no snapshot
	OrphanLease     ProblemKind = "orphan lease"     // of a plugin that does not exist
)

// Check compares the records with what is on disk and reports what does not
// fit. It changes nothing. Run while operations are under way it may report
// what they are about to finish.
func (s *Store) Check(ctx context.Context) (Report, error) {
	return Report{}, errdefs.ErrNotImplemented
}
