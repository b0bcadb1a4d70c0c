package api

import (
	"context"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// DiskBackend is what the routes call that are about room on disk. A
// [PluginBackend] that implements it has them.
type DiskBackend interface {
	// DiskUsage says what is on disk and which plugin has it.
	DiskUsage(ctx context.Context) (outlet.DiskUsage, error)
	// Prune removes what nothing needs.
	Prune(ctx context.Context) (outlet.Pruned, error)
}

func (s *Server) disk() (DiskBackend, error) {
	if b, ok := s.cfg.Plugins.(DiskBackend); ok {
		return b, nil
	}
	return nil, outlet.Errorf(errdefs.ErrNotImplemented, "room on disk is not told by this version of Outlet")
}

func (s *Server) outletDiskUsage(w http.ResponseWriter, r *http.Request) error {
	b, err := s.disk()
	if err != nil {
		return err
	}
	usage, err := b.DiskUsage(r.Context())
	if err != nil {
		return err
	}
	if usage.Plugins == nil {
		usage.Plugins = []outlet.PluginUsage{}
	}
	return writeJSON(w, http.StatusOK, usage)
}

func (s *Server) pruneSystem(w http.ResponseWriter, r *http.Request) error {
	b, err := s.disk()
	if err != nil {
		return err
	}
	ctx, cancel := s.detached(r)
	defer cancel()
	pruned, err := b.Prune(ctx)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, pruned)
}
