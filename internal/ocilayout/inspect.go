package ocilayout

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/registry"
)

// PluginConfig is the type of the config of a plugin; nothing else tells a
// plugin from an image.
const PluginConfig = "application/vnd.docker.plugin.v1+json"

// Bounds of what [Inspect] reads and keeps.
const (
	inspectEntries   = 100_000
	inspectBytes     = 1 << 40
	inspectDocuments = 64 << 20
)

// Plugin is a plugin of a layout as its user is shown it.
type Plugin struct {
	// Name is the local name, or what the layout says instead.
	Name string
	// Digest is that of the manifest.
	Digest string
	Config outlet.Config // as it was decoded
}

// Inspect says which plugins are in a layout, for the platform ("" is the
// host's). It reads a tar that is plain, gzip or zstd to its end; of a plain one
// that can seek only the documents are read. Errors are
// errdefs.ErrInvalidArgument, or those of the file.
func Inspect(ctx context.Context, f *os.File, platform string) ([]Plugin, error) {
	want := registry.HostPlatform()
	if platform != "" {
		var err error
		if want, err = registry.ParsePlatform(platform); err != nil {
			return nil, err
		}
	}
	r, done, err := decompress(f)
	if err != nil {
		return nil, err
	}
	defer done()
	docs := documents{m: make(map[digest.Digest][]byte)}
	index, err := Read(ctx, r, Limits{Entries: inspectEntries, Bytes: inspectBytes}, docs.keep)
	if err != nil {
		return nil, err
	}
	items, err := Items(ctx, index, want, docs.get)
	if err != nil {
		return nil, err
	}
	var plugins []Plugin
	for _, item := range items {
		if item.Manifest.Config.MediaType != PluginConfig {
			continue
		}
		raw, err := docs.get(ctx, item.Manifest.Config.Digest)
		if err != nil {
			return nil, err
		}
		p := Plugin{Name: item.Name, Digest: item.Manifest.Descriptor.Digest.String()}
		if p.Name == "" {
			p.Name = item.Ref
		}
		if p.Config, _, err = outlet.ParseConfigBlob(raw); err != nil {
			return nil, fmt.Errorf("plugin %.256q: %w", p.Name, err)
		}
		plugins = append(plugins, p)
	}
	return plugins, nil
}

// decompress opens a file that is plain or compressed.
func decompress(f *os.File) (io.Reader, func(), error) {
	br := bufio.NewReaderSize(f, 64<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, nil, readFailed(err)
		}
		return z, func() {}, nil
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(br, zstd.WithDecoderMaxWindow(8<<20), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, nil, readFailed(err)
		}
		return z, z.Close, nil
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return br, func() {}, nil //nolint:nilerr // a pipe: then all of it is read
	}
	return f, func() {}, nil // which skips what it need not read
}

// documents are the small blobs of a layout that may be JSON.
type documents struct {
	m    map[digest.Digest][]byte
	size int64
}

func (d *documents) keep(of digest.Digest, size int64, r io.Reader) error {
	if size > MaxDocument || size == 0 {
		return nil
	}
	var first [1]byte
	if _, err := io.ReadFull(r, first[:]); err != nil {
		return readFailed(err)
	}
	if first[0] != '{' && first[0] != ' ' && first[0] != '\n' && first[0] != '\t' && first[0] != '\r' {
		return nil
	}
	if d.size += size; d.size > inspectDocuments {
		return invalid("the documents of the OCI layout are larger than %d bytes", inspectDocuments)
	}
	rest, err := io.ReadAll(r)
	if err != nil {
		return readFailed(err)
	}
	d.m[of] = append(first[:], rest...)
	return nil
}

func (d *documents) get(_ context.Context, of digest.Digest) ([]byte, error) {
	b, ok := d.m[of]
	if !ok {
		return nil, invalid("the archive lacks the blob %s, or it is no document", of)
	}
	if got := digest.FromBytes(b); got != of {
		return nil, invalid("the bytes of blob %s have the digest %s", of, got)
	}
	return b, nil
}
