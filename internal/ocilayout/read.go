package ocilayout

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
)

const (
	// MaxDocument bounds an index and a manifest, in bytes.
	MaxDocument = 4 << 20
	// maxLayoutFile bounds the file that says that a tar is a layout.
	maxLayoutFile = 4 << 10
	blobDir       = ocispec.ImageBlobsDir + "/sha256/"
)

// Limits bounds what a layout may make its reader store. All must be positive.
type Limits struct {
	Entries int64 // of the tar, those that are passed over included
	Bytes   int64 // of all blobs together
}

// Blob is given each blob of a layout. The digest is the one its name claims,
// nothing is verified. What of r is not read is passed over.
type Blob func(d digest.Digest, size int64, r io.Reader) error

// Read reads a layout from an uncompressed tar to its end and returns its index.
// Entries that do not belong to a layout are passed over: those who write them
// add files of their own. All that is wrong with the tar is
// errdefs.ErrInvalidArgument; errors of blob are returned as they are.
func Read(ctx context.Context, r io.Reader, limits Limits, blob Blob) (index []byte, err error) {
	in := reader{limits: limits, tar: tar.NewReader(r), blob: blob}
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		hdr, err := in.tar.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, readFailed(err)
		}
		if err := in.entry(hdr); err != nil {
			return nil, err
		}
	}
	switch {
	case !in.layout && in.index == nil:
		return nil, invalid("the archive is not an OCI layout: it has neither oci-layout nor index.json")
	case !in.layout:
		return nil, invalid("the archive is not an OCI layout: it has no file oci-layout")
	case in.index == nil:
		return nil, invalid("the OCI layout has no index.json")
	}
	return in.index, nil
}

type reader struct {
	limits  Limits
	tar     *tar.Reader
	blob    Blob
	entries int64
	bytes   int64
	layout  bool
	index   []byte
}

func (in *reader) entry(hdr *tar.Header) error {
	if in.entries++; in.entries > in.limits.Entries {
		return invalid("the archive exceeds the limit of %d entries", in.limits.Entries)
	}
	name := path.Clean(strings.TrimPrefix(hdr.Name, "./"))
	encoded, isBlob := strings.CutPrefix(name, blobDir)
	isBlob = isBlob && hdr.Typeflag != tar.TypeDir
	if !isBlob && name != ocispec.ImageLayoutFile && name != ocispec.ImageIndexFile {
		return nil
	}
	if hdr.Typeflag != tar.TypeReg {
		return invalid("the OCI layout: %q is not a regular file", name)
	}
	switch {
	case isBlob:
		return in.readBlob(hdr, encoded)
	case name == ocispec.ImageLayoutFile:
		return in.readLayoutFile(hdr)
	}
	// Two indexes would be two layouts, and readers could choose differently.
	if in.index != nil {
		return invalid("the OCI layout has two index.json")
	}
	raw, err := in.document(hdr, MaxDocument)
	in.index = raw
	return err
}

func (in *reader) readBlob(hdr *tar.Header, encoded string) error {
	d := digest.NewDigestFromEncoded(digest.SHA256, encoded)
	if err := d.Validate(); err != nil {
		return invalid("the OCI layout: a blob has the name %q, which is no digest", hdr.Name)
	}
	if hdr.Size < 0 || hdr.Size > in.limits.Bytes-in.bytes {
		return invalid("the archive exceeds the limit of %d bytes", in.limits.Bytes)
	}
	in.bytes += hdr.Size
	var read readTracker
	read.r = in.tar
	err := in.blob(d, hdr.Size, &read)
	if err != nil && read.err != nil {
		return readFailed(read.err) // the cause of what the blob's owner says
	}
	return err
}

// readTracker remembers how reading the tar failed.
type readTracker struct {
	r   io.Reader
	err error
}

func (t *readTracker) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		t.err = err
	}
	return n, err
}

func (in *reader) readLayoutFile(hdr *tar.Header) error {
	raw, err := in.document(hdr, maxLayoutFile)
	if err != nil {
		return err
	}
	var l ocispec.ImageLayout
	if err := json.Unmarshal(raw, &l); err != nil {
		return invalid("the OCI layout: oci-layout: %w", err)
	}
	if major, _, _ := strings.Cut(l.Version, "."); major != "1" {
		return invalid("OCI layouts of version %.32q are not supported, only those of version 1", l.Version)
	}
	in.layout = true
	return nil
}

// document reads a small file whole.
func (in *reader) document(hdr *tar.Header, limit int64) ([]byte, error) {
	if hdr.Size > limit {
		return nil, invalid("the OCI layout: %s is larger than %d bytes", path.Base(hdr.Name), limit)
	}
	raw, err := io.ReadAll(io.LimitReader(in.tar, limit))
	if err != nil {
		return nil, readFailed(err)
	}
	return raw, nil
}

// readFailed classes a failure to read the tar.
func readFailed(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errdefs.IsInvalidArgument(err) {
		return err
	}
	return invalid("failed to read from tar: %w", err)
}

func invalid(format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, format, args...)
}
