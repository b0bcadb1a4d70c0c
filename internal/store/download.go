package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
)

// downloadChunk is how much is written, and shown to those who follow, at once.
const downloadChunk = 256 << 10

// maxRestarts is how often a blob whose bytes turn out wrong is read again.
const maxRestarts = 3

// Download is a blob on its way: package registry has one.
type Download interface {
	io.ReadCloser
	// Distrust says that the bytes were wrong, and returns whether the next
	// download may bring others.
	Distrust() bool
	// Host is where the bytes come from, for errors.
	Host() string
}

// Fetch begins to read a blob at offset.
type Fetch func(ctx context.Context, desc ocispec.Descriptor, offset int64) Download

// downloads are those under way, by digest: a blob is downloaded once, whoever
// wants it.
type downloads struct {
	mu sync.Mutex
	m  map[digest.Digest]*download
}

// download is one blob being downloaded. Those who unpack it read its file while
// it grows.
type download struct {
	desc ocispec.Descriptor
	done chan struct{}
	err  error // read after done

	mu      sync.Mutex
	file    *os.File // of the ingest; nil until it is open, and if there is none
	version int      // goes up when the file begins anew
	offset  int64    // bytes of it that are there
	grown   chan struct{}
}

// join returns the download of desc, and whether it is the caller's to run.
func (d *downloads) join(desc ocispec.Descriptor) (dl *download, run bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if dl, ok := d.m[desc.Digest]; ok {
		return dl, false
	}
	dl = &download{desc: desc, done: make(chan struct{}), grown: make(chan struct{})}
	if d.m == nil {
		d.m = make(map[digest.Digest]*download)
	}
	d.m[desc.Digest] = dl
	return dl, true
}

func (d *downloads) current(of digest.Digest) *download {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.m[of]
}

// leave ends a download: from then on there is a blob, or another try.
func (d *downloads) leave(dl *download, err error) {
	d.mu.Lock()
	delete(d.m, dl.desc.Digest)
	d.mu.Unlock()
	dl.err = err
	dl.mu.Lock()
	file := dl.file
	dl.mu.Unlock()
	close(dl.done)
	if file != nil {
		_ = file.Close() // only read from; who still follows has a descriptor of their own
	}
}

// position is how many bytes are there.
func (dl *download) position() int64 {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	return dl.offset
}

func (dl *download) advance(n int64) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	dl.offset += n
	close(dl.grown)
	dl.grown = make(chan struct{})
}

// begin makes the file known, or that it begins anew.
func (dl *download) begin(file *os.File, offset int64) {
	dl.mu.Lock()
	defer dl.mu.Unlock()
	if file != nil {
		dl.file = file
	}
	dl.version++
	dl.offset = offset
	close(dl.grown)
	dl.grown = make(chan struct{})
}

// download gets a blob into the store, resuming what an earlier try left. The
// blob must be leased by its digest already: the ingest itself belongs to no
// lease, so that it outlives a failed pull and expires by itself.
func (s *Store) download(ctx context.Context, dl *download, fetch Fetch) (err error) {
	defer func() { s.downloads.leave(dl, err) }()
	tap := new(ingestTap)
	ref := "layer-" + dl.desc.Digest.String()
	w, err := s.Content().Writer(withTap(s.Context(ctx), tap), content.WithRef(ref), content.WithDescriptor(dl.desc))
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer w.Close() // what matters was committed
	st, err := w.Status()
	if err != nil {
		return err
	}
	if st.Offset > dl.desc.Size {
		if err := w.Truncate(0); err != nil {
			return err
		}
		st.Offset = 0
	}
	file, err := os.Open(filepath.Join(s.root, "content", "ingest", digest.FromString(tap.ref).Encoded(), "data"))
	if err != nil {
		return fmt.Errorf("open what is being downloaded: %w", err)
	}
	dl.begin(file, st.Offset)
	for restarts := 0; ; restarts++ {
		from, again, err := s.transfer(ctx, dl, w, fetch)
		if err != nil {
			return err
		}
		got := w.Digest()
		if got == dl.desc.Digest {
			break
		}
		// Bytes of an earlier try may be the wrong ones, or those of a mirror.
		resumed := restarts == 0 && st.Offset > 0
		if !resumed && !again || restarts >= maxRestarts {
			return errors.Join(
				outlet.Errorf(errdefs.ErrInternal, "registry %s: it sent a blob of digest %s for %s", from, got, dl.desc.Digest),
				w.Truncate(0),
			)
		}
		dl.begin(nil, 0)
		if err := w.Truncate(0); err != nil {
			return err
		}
	}
	// It is all there: that its client hangs up now must not waste it.
	err = w.Commit(s.Context(context.WithoutCancel(ctx)), dl.desc.Size, dl.desc.Digest)
	if errdefs.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// transfer writes what is missing. It returns where that came from, and whether
// another try may bring other bytes, should these be wrong.
func (s *Store) transfer(ctx context.Context, dl *download, w io.Writer, fetch Fetch) (from string, again bool, err error) {
	src := fetch(ctx, dl.desc, dl.position())
	defer func() { err = errors.Join(err, src.Close()) }()
	buf := make([]byte, downloadChunk)
	for dl.position() < dl.desc.Size {
		n, rerr := io.ReadAtLeast(src, buf, downloadChunk/4)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return src.Host(), false, err
			}
			dl.advance(int64(n))
		}
		if rerr != nil && rerr != io.EOF && rerr != io.ErrUnexpectedEOF { // exactly what ReadAtLeast returns
			return src.Host(), false, rerr
		}
		if rerr != nil && dl.position() < dl.desc.Size && n == 0 {
			return src.Host(), false, outlet.Errorf(errdefs.ErrInternal, "registry %s: blob %s ended after %d of %d bytes", src.Host(), dl.desc.Digest, dl.position(), dl.desc.Size)
		}
	}
	if d, ok := w.(interface{ Digest() digest.Digest }); ok && d.Digest() != dl.desc.Digest {
		again = src.Distrust()
	}
	return src.Host(), again, nil
}

// errInterrupted says that a blob that was read while it arrived did not come to
// its end, or began anew. The one who reads tries again.
var errInterrupted = errors.New("the download it was read from broke off")

// openLayer opens a blob that is in the store, or on its way there.
func (s *Store) openLayer(ctx context.Context, desc ocispec.Descriptor) (io.ReadCloser, error) {
	if dl := s.downloads.current(desc.Digest); dl != nil {
		r, err := s.follow(ctx, dl)
		if r != nil || err != nil {
			return r, err
		}
	}
	ra, err := s.Content().ReaderAt(s.Context(ctx), desc)
	if errdefs.IsNotFound(err) {
		return nil, errInterrupted // it failed, and the next try is not there yet
	}
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(ra, 0, ra.Size()), ra}, nil
}

// follow returns a reader of a download, nil if that ended meanwhile.
func (s *Store) follow(ctx context.Context, dl *download) (io.ReadCloser, error) {
	for {
		dl.mu.Lock()
		file, version, grown := dl.file, dl.version, dl.grown
		if file != nil {
			select {
			case <-dl.done:
				dl.mu.Unlock()
				return nil, nil
			default:
			}
			// A descriptor of our own: the download closes its one at its end.
			own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd()))
			dl.mu.Unlock()
			if err != nil {
				return nil, err
			}
			return &follower{ctx: ctx, dl: dl, file: own, version: version}, nil
		}
		dl.mu.Unlock()
		select {
		case <-grown:
		case <-dl.done:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// follower reads a download's file as it grows.
type follower struct {
	ctx     context.Context //nolint:containedctx // a reader has no other way to be told
	dl      *download
	file    *os.File
	version int
	offset  int64
}

func (f *follower) Read(p []byte) (int, error) {
	for {
		f.dl.mu.Lock()
		version, there, grown := f.dl.version, f.dl.offset, f.dl.grown
		f.dl.mu.Unlock()
		switch {
		case version != f.version:
			return 0, errInterrupted
		case f.offset < there:
			n, err := f.file.ReadAt(p[:min(int64(len(p)), there-f.offset)], f.offset)
			f.offset += int64(n)
			if n > 0 {
				return n, nil
			}
			return 0, err
		case f.offset >= f.dl.desc.Size:
			return 0, io.EOF
		}
		select {
		case <-grown:
		case <-f.dl.done:
			if f.dl.err != nil && f.dl.position() == there {
				return 0, errInterrupted
			}
			if f.dl.position() == there {
				return 0, io.ErrUnexpectedEOF
			}
		case <-f.ctx.Done():
			return 0, f.ctx.Err()
		}
	}
}

// misled says, once its blob is in the store, whether what was read may have
// been something else: bytes of a mirror or of another registry, who asked first.
func (f *follower) misled() bool {
	if f == nil {
		return false
	}
	select {
	case <-f.dl.done:
	default:
		return true // it is in the store by another download
	}
	f.dl.mu.Lock()
	defer f.dl.mu.Unlock()
	return f.dl.err != nil || f.dl.version != f.version
}

func (f *follower) Close() error { return f.file.Close() }

// ingestTap learns the name by which the content store on disk knows an ingest.
type ingestTap struct{ ref string }

type tapKey struct{}

func withTap(ctx context.Context, t *ingestTap) context.Context {
	return context.WithValue(ctx, tapKey{}, t)
}

// Writer tells a tap in ctx the name of the ingest.
func (c *countingContent) Writer(ctx context.Context, opts ...content.WriterOpt) (content.Writer, error) {
	if t, ok := ctx.Value(tapKey{}).(*ingestTap); ok {
		var o content.WriterOpts
		for _, opt := range opts {
			if err := opt(&o); err != nil {
				return nil, err
			}
		}
		t.ref = o.Ref
	}
	return c.Store.Writer(ctx, opts...)
}
