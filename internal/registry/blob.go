package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// asError is errors.As for [*Error].
func asError(err error, target **Error) bool { return errors.As(err, target) }

// Config reads a small blob whole and verifies it.
func (r *Repository) Config(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
	if desc.Size > r.c.cfg.MaxConfig {
		return nil, errTooLarge("config", r.c.cfg.MaxConfig)
	}
	for {
		b := r.Blob(ctx, desc, 0)
		b.small = true
		raw, err := io.ReadAll(b)
		_ = b.Close() // only read from
		if err != nil {
			return nil, err
		}
		got := digest.FromBytes(raw)
		if got == desc.Digest {
			return raw, nil
		}
		if !b.Distrust() {
			return nil, &Error{Host: b.Host(), Reason: fmt.Sprintf("it sent a blob of digest %s for %s", got, desc.Digest)}
		}
	}
}

// Blob is the bytes of a blob as they arrive: exactly as many as its descriptor
// says, or an error. Where a connection drops it goes on from there. The bytes
// are not verified.
type Blob struct {
	r    *Repository
	ctx  context.Context //nolint:containedctx // a reader has no other way to be told
	desc ocispec.Descriptor

	small bool // it has to arrive as documents have

	offset int64
	body   io.ReadCloser
	from   *endpoint // of body, or of the last one
	idle   int       // failures without progress between them
	gained int64     // bytes since the last failure
}

// progress is how many bytes a connection has to bring to be worth another one.
// With a byte for each a download would go on for ever.
const progress = 64 << 10

// Blob begins to read a blob at offset. Nothing is sent before the first Read.
func (r *Repository) Blob(ctx context.Context, desc ocispec.Descriptor, offset int64) *Blob {
	return &Blob{r: r, ctx: ctx, desc: desc, offset: offset}
}

// Read reads on, reconnecting as often as it helps.
func (b *Blob) Read(p []byte) (int, error) {
	for {
		if b.offset >= b.desc.Size {
			return 0, io.EOF
		}
		if err := b.ctx.Err(); err != nil {
			return 0, context.Cause(b.ctx)
		}
		if b.body == nil {
			if err := b.open(); err != nil {
				return 0, err
			}
		}
		n, err := b.body.Read(p[:min(int64(len(p)), b.desc.Size-b.offset)])
		b.offset += int64(n)
		if n > 0 {
			if b.gained += int64(n); b.gained >= progress {
				b.idle = 0
			}
			return n, nil // a failure shows again at the next Read, if it matters
		}
		if err == nil {
			continue
		}
		_ = b.body.Close() // it failed already
		b.body, b.gained = nil, 0
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if b.idle++; b.idle >= b.r.c.cfg.Attempts || b.ctx.Err() != nil {
			if b.ctx.Err() != nil {
				return 0, context.Cause(b.ctx)
			}
			return 0, &Error{Host: b.Host(), Reason: fmt.Sprintf("the download of %s broke off after %d of %d bytes: %v", b.desc.Digest, b.offset, b.desc.Size, err), Err: err}
		}
		if b.from.mirror {
			b.r.c.penalise(b.from.Host)
		}
		if err := sleep(b.ctx, retryPolicy{c: b.r.c}.backoff(b.idle)); err != nil {
			return 0, err
		}
	}
}

func (b *Blob) open() error {
	q := request{method: http.MethodGet, path: "blobs/" + b.desc.Digest.String(), header: http.Header{}}
	if b.offset > 0 {
		q.header.Set("Range", "bytes="+strconv.FormatInt(b.offset, 10)+"-"+strconv.FormatInt(b.desc.Size-1, 10))
	}
	success := []int{http.StatusOK, http.StatusPartialContent}
	return b.r.read(withBlob(b.ctx, !b.small), docker.HostCapabilityPull, distrust{of: b.desc.Digest}, q, success, func(e *endpoint, resp *http.Response) error {
		b.from = e
		left := b.desc.Size - b.offset
		fail := func(format string, args ...any) error {
			resp.Body.Close() // only read from
			return &Error{Host: e.Host, Reason: fmt.Sprintf("blob "+b.desc.Digest.String()+": "+format, args...)}
		}
		if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" {
			return fail("it sent it encoded as %q, unasked", clip(enc))
		}
		if resp.StatusCode == http.StatusPartialContent {
			if cr := resp.Header.Get("Content-Range"); !strings.HasPrefix(cr, "bytes "+strconv.FormatInt(b.offset, 10)+"-") {
				return fail("it was asked for bytes from %d and sent %q", b.offset, clip(cr))
			}
		} else {
			left = b.desc.Size
		}
		if resp.ContentLength >= 0 && resp.ContentLength != left {
			return fail("it has %d bytes where the manifest says %d", resp.ContentLength, left)
		}
		if resp.StatusCode == http.StatusOK && b.offset > 0 { // it knows no ranges
			if _, err := io.CopyN(io.Discard, resp.Body, b.offset); err != nil {
				return fail("read up to byte %d again: %v", b.offset, err)
			}
		}
		b.body = resp.Body
		return nil
	})
}

// Host is the endpoint the bytes came from.
func (b *Blob) Host() string {
	if b.from == nil {
		return b.r.endpoints[len(b.r.endpoints)-1].Host
	}
	return b.from.Host
}

// Distrust says that the bytes were wrong. It returns whether another endpoint
// may have the right ones: a new Blob is read from that.
func (b *Blob) Distrust() bool {
	if b.from == nil || !b.from.mirror {
		return false
	}
	b.r.mu.Lock()
	defer b.r.mu.Unlock()
	b.r.distrusted[distrust{b.from.Host, b.desc.Digest}] = true
	return true
}

// Close ends the download.
func (b *Blob) Close() error {
	if b.body == nil {
		return nil
	}
	err := b.body.Close()
	b.body = nil
	return err
}
