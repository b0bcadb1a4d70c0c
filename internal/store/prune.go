package store

import (
	"context"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet"
)

// Prune removes what [Store.GC] does and, other than it, all downloads that broke
// off, however lately. Operations go on meanwhile.
func (s *Store) Prune(ctx context.Context) (outlet.Pruned, error) {
	before, err := s.Usage(ctx)
	if err != nil {
		return outlet.Pruned{}, err
	}
	var p outlet.Pruned
	if err := s.pruneDownloads(s.Context(ctx), &p); err != nil {
		return p, err
	}
	// As everywhere: an interrupted collection would leave a goroutine.
	st, err := s.GC(context.WithoutCancel(ctx))
	p.Blobs, p.Layers = st.Blobs, st.Snapshots
	p.Bytes += st.Bytes
	if st.Snapshots > 0 {
		p.Bytes += before.Layers.Reclaimable
	}
	return p, err
}

func (s *Store) pruneDownloads(ctx context.Context, p *outlet.Pruned) error {
	all, err := s.Content().ListStatuses(ctx)
	if err != nil {
		return ignoreNotFound(err)
	}
	for _, st := range all {
		of, idle := s.interrupted(st.Ref)
		if !idle {
			continue
		}
		err := s.downloads.whenIdle(of, func() error { return s.Content().Abort(ctx, st.Ref) })
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		p.Downloads++
		p.Bytes += st.Offset
	}
	return nil
}

// interrupted says whether an ingest is a download that nobody runs.
func (s *Store) interrupted(ref string) (of digest.Digest, idle bool) {
	rest, ok := strings.CutPrefix(ref, "layer-")
	of = digest.Digest(rest)
	if !ok || of.Validate() != nil {
		return "", false // of a lease, with which it goes
	}
	return of, s.downloads.current(of) == nil
}

// whenIdle calls f while nobody downloads of, and keeps everybody from beginning
// to.
func (d *downloads) whenIdle(of digest.Digest, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, running := d.m[of]; running {
		return nil
	}
	return f()
}
