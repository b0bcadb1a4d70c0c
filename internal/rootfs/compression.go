package rootfs

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compression is how the bytes of an archive are packed.
type compression int

const (
	plain compression = iota
	gzipped
	zstandard
)

func (c compression) String() string {
	return [...]string{"plain", "gzip", "zstd"}[c]
}

var magics = map[compression][]byte{
	gzipped:   {0x1f, 0x8b, 8},
	zstandard: {0x28, 0xb5, 0x2f, 0xfd},
}

// detect tells from the first bytes how an archive is packed.
func detect(head []byte) compression {
	for c, magic := range magics {
		if bytes.HasPrefix(head, magic) {
			return c
		}
	}
	return plain
}

// zstdWindow bounds the memory a zstd stream may ask of its reader; it is what
// `zstd` itself accepts without being told to (8 MiB is its default up to level
// 19).
const zstdWindow = 8 << 20

// decompress returns what r holds unpacked. The reader must be closed; it works
// ahead of its caller.
func decompress(r io.Reader, c compression) (io.ReadCloser, error) {
	switch c {
	case gzipped:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		return readAhead(z), nil
	case zstandard:
		z, err := zstd.NewReader(r, zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(2))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	default:
		return io.NopCloser(r), nil
	}
}

// readAhead reads r in a goroutine of its own that ends with r or with Close,
// which waits for it.
func readAhead(r io.Reader) io.ReadCloser {
	pr, pw := io.Pipe()
	a := &ahead{PipeReader: pr, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		_, err := io.CopyBuffer(struct{ io.Writer }{pw}, struct{ io.Reader }{r}, make([]byte, 256<<10))
		pw.CloseWithError(err)
	}()
	return a
}

type ahead struct {
	*io.PipeReader
	done chan struct{}
}

func (a *ahead) Close() error {
	err := a.PipeReader.Close()
	<-a.done
	return err
}

// unpack opens an archive whose packing only its first bytes tell, within
// limits.
func unpack(ctx context.Context, r io.Reader, limits Limits) (io.ReadCloser, error) {
	br := bufio.NewReaderSize(&bounded{ctx: ctx, r: r, left: limits.CompressedBytes, limit: limits.CompressedBytes, what: "compressed bytes"}, 256<<10)
	head, err := br.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return unpackAs(ctx, br, detect(head), limits)
}

// unpackAs opens an archive that is packed as c.
func unpackAs(ctx context.Context, r io.Reader, c compression, limits Limits) (io.ReadCloser, error) {
	z, err := decompress(r, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	return struct {
		io.Reader
		io.Closer
	}{&bounded{ctx: ctx, r: z, left: limits.UncompressedBytes, limit: limits.UncompressedBytes, what: "uncompressed bytes"}, z}, nil
}

// bounded reads r until its limit is used up or ctx ends.
type bounded struct {
	ctx   context.Context //nolint:containedctx // a reader has no other way to be told
	r     io.Reader
	left  int64
	limit int64
	what  string
}

func (b *bounded) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	b.left -= int64(n)
	if b.left < 0 {
		return 0, exceeded(b.what, b.limit)
	}
	return n, err
}
