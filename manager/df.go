package manager

import (
	"context"

	"github.com/outletd/outlet"
)

// DiskUsage says what is on disk and which plugin has it.
func (m *Manager) DiskUsage(ctx context.Context) (outlet.DiskUsage, error) {
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return outlet.DiskUsage{}, err
	}
	defer done()
	return m.store.Usage(ctx)
}

// Prune removes the content that no plugin and no operation under way uses, and
// downloads that broke off.
func (m *Manager) Prune(ctx context.Context) (outlet.Pruned, error) {
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return outlet.Pruned{}, err
	}
	defer done()
	p, err := m.store.Prune(ctx)
	if err != nil {
		return p, err
	}
	m.log.Info("removed what nothing needs", "blobs", p.Blobs, "layers", p.Layers, "downloads", p.Downloads, "bytes", p.Bytes)
	return p, nil
}
