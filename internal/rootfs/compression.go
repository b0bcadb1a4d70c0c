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

// What readAhead works ahead at most.
const (
	aheadChunk  = 256 << 10
	aheadChunks = 4
)

// readAhead reads r in a goroutine of its own that ends with r or with Close,
// which waits for it. A pipe would not do: its writer waits for its reader, so
// that only one of them works.
func readAhead(r io.Reader) io.ReadCloser {
	a := &ahead{
		full: make(chan []byte, aheadChunks), empty: make(chan []byte, aheadChunks),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	for range aheadChunks {
		a.empty <- make([]byte, aheadChunk)
	}
	go a.run(r)
	return a
}

type ahead struct {
	full, empty chan []byte
	quit, done  chan struct{}
	err         error // of r; read after full was closed

	chunk, rest []byte // owned by Read
	closed      bool
}

func (a *ahead) run(r io.Reader) {
	defer close(a.done)
	defer close(a.full)
	for {
		var chunk []byte
		select {
		case chunk = <-a.empty:
		case <-a.quit:
			return
		}
		var n int
		var err error
		for n < cap(chunk) && err == nil {
			var m int
			m, err = r.Read(chunk[n:cap(chunk)])
			n += m
		}
		a.full <- chunk[:n] // there is room for all there are
		if err != nil {
			a.err = err
			return
		}
	}
}

func (a *ahead) Read(p []byte) (int, error) {
	for len(a.rest) == 0 {
		if a.closed {
			return 0, io.ErrClosedPipe
		}
		if a.chunk != nil {
			a.empty <- a.chunk
			a.chunk = nil
		}
		chunk, ok := <-a.full
		if !ok {
			return 0, a.err
		}
		a.chunk, a.rest = chunk, chunk
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

func (a *ahead) Close() error {
	if !a.closed {
		a.closed = true
		close(a.quit)
	}
	<-a.done
	return nil
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
