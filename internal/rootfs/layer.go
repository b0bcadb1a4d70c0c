package rootfs

import (
	"archive/tar"
	"context"
	"errors"
	"io"

	"github.com/containerd/errdefs"
)

// budget counts what the entries of an archive ask for.
type budget struct {
	limits  Limits
	entries int64
	bytes   int64
}

// take counts one entry.
func (b *budget) take(hdr *tar.Header) error {
	if b.entries++; b.entries > b.limits.Entries {
		return exceeded("entries", b.limits.Entries)
	}
	if hdr.Size < 0 || hdr.Size > b.limits.UncompressedBytes-b.bytes {
		return exceeded("uncompressed bytes", b.limits.UncompressedBytes)
	}
	b.bytes += hdr.Size
	if len(hdr.Name) > b.limits.PathBytes || len(hdr.Linkname) > b.limits.PathBytes {
		return exceeded("bytes in a name", int64(b.limits.PathBytes))
	}
	n := 0
	for k, v := range hdr.PAXRecords {
		n += len(k) + len(v)
	}
	if n > b.limits.HeaderBytes {
		return exceeded("bytes in the extended header of an entry", int64(b.limits.HeaderBytes))
	}
	return nil
}

// normalize makes an entry one of the types that are applied; false is one that
// is not applied at all.
func normalize(hdr *tar.Header) bool {
	switch hdr.Typeflag {
	case tar.TypeXGlobalHeader:
		return false
	case tar.TypeCont, tar.TypeGNUSparse, '\x00':
		// The reader gives the content of both in full.
		hdr.Typeflag = tar.TypeReg
	}
	return true
}

// applyLayer applies the tar in r to the directory dir, which holds lower
// layers if upper is set, within the budget, and reads r to its end.
func applyLayer(ctx context.Context, dir string, r io.Reader, upper bool, b *budget) (warnings []string, err error) {
	a, err := newApplier(dir, upper)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.close()) }()
	tr := tar.NewReader(r)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, readFailed(err)
		}
		if err := b.take(hdr); err != nil {
			return nil, err
		}
		if !normalize(hdr) {
			continue
		}
		if err := a.entry(hdr, tr, nil); err != nil {
			return nil, entryFailed(err)
		}
	}
	// What follows the end of the archive belongs to its digest all the same.
	if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{r}, a.buf); err != nil {
		return nil, readFailed(err)
	}
	return a.warnings(), nil
}

// readFailed classes a failure to read an archive: all but the end of the
// context and a failing host is the archive's fault, a connection that broke
// included.
func readFailed(err error) error {
	if isHostError(err) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return invalidf("failed to read from tar: %w", err)
}

// entryFailed classes a failure of an entry.
func entryFailed(err error) error {
	var read *readError
	if errors.As(err, &read) {
		return readFailed(read.error)
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errdefs.IsInvalidArgument(err) {
		return readFailed(err)
	}
	return err
}
