package store

import (
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// reportEvery is how often counts are told.
const reportEvery = 100 * time.Millisecond

// reporter tells how far the layers of a pull are: each change of state at once,
// counts now and then.
type reporter struct {
	tell func(LayerProgress)

	mu     sync.Mutex
	order  []digest.Digest
	layers map[digest.Digest]*layerReport
}

type layerReport struct {
	last     LayerProgress
	download *download
	read     atomic.Int64 // of the blob, by who unpacks it
	reading  bool
	arrived  bool
}

func newReporter(layers []ocispec.Descriptor, tell func(LayerProgress)) *reporter {
	r := &reporter{tell: tell, layers: make(map[digest.Digest]*layerReport)}
	for _, l := range layers {
		if _, ok := r.layers[l.Digest]; ok {
			continue
		}
		r.order = append(r.order, l.Digest)
		r.layers[l.Digest] = &layerReport{last: LayerProgress{Layer: l}}
	}
	return r
}

// run begins to tell; stop ends that and waits for it.
func (r *reporter) run() (stop func()) {
	if r.tell == nil {
		return func() {}
	}
	r.mu.Lock()
	for _, d := range r.order {
		r.tell(r.layers[d].last)
	}
	r.mu.Unlock()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(reportEvery)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				r.counts()
			case <-quit:
				return
			}
		}
	}()
	return func() { close(quit); <-done }
}

// set tells a change of state. One that lies behind the layer is not told.
func (r *reporter) set(l ocispec.Descriptor, state LayerState, dl *download) {
	r.mu.Lock()
	defer r.mu.Unlock()
	lr := r.layers[l.Digest]
	if dl != nil {
		lr.download = dl
	}
	lr.arrived = lr.arrived || state == LayerDownloaded || state == LayerExists
	if state <= lr.last.State {
		return
	}
	lr.last.State, lr.last.Current = state, 0
	if r.tell != nil {
		r.tell(lr.last)
	}
}

// counts tells what grew. While a layer arrives that is shown, even if it is
// being unpacked already.
func (r *reporter) counts() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.order {
		lr := r.layers[d]
		now := lr.last
		switch {
		case lr.last.State == LayerDownloading && lr.download != nil:
			now.Current = lr.download.position()
		case lr.arrived && lr.reading && lr.last.State < LayerComplete:
			now.State, now.Current = LayerExtracting, lr.read.Load()
		}
		if now.State != lr.last.State || now.Current > lr.last.Current {
			lr.last = now
			r.tell(now)
		}
	}
}

// extracting counts what is read of a layer that is unpacked.
func (r *reporter) extracting(l ocispec.Descriptor, from io.ReadCloser) io.ReadCloser {
	r.mu.Lock()
	defer r.mu.Unlock()
	lr := r.layers[l.Digest]
	lr.reading = true
	lr.read.Store(0)
	return &countedReader{ReadCloser: from, n: &lr.read}
}

type countedReader struct {
	io.ReadCloser
	n *atomic.Int64
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n.Add(int64(n))
	return n, err
}
