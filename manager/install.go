package manager

import (
	"context"
	"fmt"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/store"
)

// Pull installs a plugin from a registry (docs/spec/managed-plugins.md §7.3) and
// leaves it disabled. progress, if not nil, is told how far it is, one call at a
// time; before its first call everything has been checked that can be without
// the layers, the privileges included.
//
// A taken name is errdefs.ErrAlreadyExists, other privileges than were granted
// errdefs.ErrInvalidArgument, a reference that meanwhile names something else
// than o.Digest errdefs.ErrConflict; else the errors are those of
// [Manager.Remote]. If it fails, or ctx ends first, there is no plugin.
func (m *Manager) Pull(ctx context.Context, name string, o outlet.PullOptions, progress func(outlet.Progress)) (outlet.Plugin, error) {
	parsed, err := outlet.ParseRemote(name, o.Name)
	if err != nil {
		return outlet.Plugin{}, err
	}
	ctx, done, err := m.operation(ctx)
	if err != nil {
		return outlet.Plugin{}, err
	}
	defer done()
	free, err := m.reserve(parsed.Name)
	if err != nil {
		return outlet.Plugin{}, err
	}
	defer free()
	r, err := m.openRemote(ctx, parsed.Reference, o.RemoteOptions)
	if err != nil {
		return outlet.Plugin{}, err
	}
	defer r.close()
	if err := m.admit(ctx, r, o.Granted, o.Digest); err != nil {
		return outlet.Plugin{}, err
	}
	art, err := m.download(ctx, r, progress)
	if err != nil {
		return outlet.Plugin{}, err
	}
	// As in Create: the client's going away leaves a whole plugin now.
	ctx = context.WithoutCancel(ctx)
	installed := false
	defer func() { m.release(ctx, art, installed) }()
	p, err := m.add(ctx, store.Record{
		Name:       parsed.Name,
		Reference:  parsed.Reference,
		Config:     r.usable,
		Settings:   initialSettings(r.usable, o.CreateOptions),
		ServiceID:  o.ServiceID,
		Granted:    o.Granted.Clone(),
		GrantedFor: art.ConfigDigest,
	}, art)
	if err != nil {
		return outlet.Plugin{}, err
	}
	installed = true
	m.warn(r, art, p.Name)
	m.logEvent("pull", reference.FamiliarString(r.ref), p.Name)
	return p, nil
}

func (m *Manager) warn(r *remote, art *store.Artifact, name string) {
	for _, w := range append(r.warnings, art.Warnings...) {
		m.log.Warn("pulled plugin", "plugin", name, "warning", w)
	}
}

// release gives up what an operation held, and has collected what nobody needs
// any more. taken says that a plugin has all that the operation made: then that
// is only what it made and gave up on its way.
func (m *Manager) release(ctx context.Context, art *store.Artifact, taken bool) {
	defer m.gc.expect()()
	err := art.Release(ctx)
	if err != nil {
		m.log.Warn("release content", "err", err)
	}
	if err != nil || !taken || m.store.Litter() {
		m.collectGarbage()
	}
}

// download gets the layers, after saying what is being downloaded.
func (m *Manager) download(ctx context.Context, r *remote, progress func(outlet.Progress)) (*store.Artifact, error) {
	if progress == nil {
		progress = func(outlet.Progress) {}
	}
	id := reference.FamiliarString(r.ref)
	if tagged, ok := r.ref.(reference.Tagged); ok {
		id = tagged.Tag()
	} else if _, ok := r.ref.(reference.Digested); ok {
		id = r.ref.String()
	}
	progress(outlet.Progress{ID: id, Status: "Pulling from " + reference.FamiliarName(r.ref), Message: true})
	progress(outlet.Progress{Status: "Digest: " + r.manifest.Descriptor.Digest.String(), Message: true})
	for _, w := range r.warnings {
		progress(outlet.Progress{Status: "Warning: " + w, Message: true})
	}
	fetch := func(ctx context.Context, desc ocispec.Descriptor, offset int64) store.Download {
		return r.repo.Blob(ctx, desc, offset)
	}
	art, err := m.store.Pull(ctx, r.content(), fetch, store.PullOptions{
		Limits:   m.cfg.Limits,
		Parallel: m.cfg.MaxDownloads,
		Report:   func(p store.LayerProgress) { layerLine(p, progress) },
	})
	if err != nil {
		m.collectGarbage()
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		return nil, fmt.Errorf("pull %s: %w", reference.FamiliarString(r.ref), err)
	}
	return art, nil
}

// layerLine is the progress of a layer in the words of Docker's clients.
func layerLine(p store.LayerProgress, progress func(outlet.Progress)) {
	line := outlet.Progress{ID: shortDigest(p.Layer.Digest)}
	switch p.State {
	case store.LayerWaiting:
		line.Status = "Waiting"
	case store.LayerDownloading:
		if line.Status = "Downloading"; p.Current == 0 {
			line.Status = "Pulling fs layer"
		} else {
			line.Current, line.Total = p.Current, p.Layer.Size
		}
	case store.LayerDownloaded:
		line.Status = "Download complete"
	case store.LayerExists:
		line.Status = "Already exists"
	case store.LayerExtracting:
		line.Status, line.Current, line.Total = "Extracting", p.Current, p.Layer.Size
	case store.LayerComplete:
		line.Status = "Complete"
	}
	progress(line)
}

func shortDigest(d digest.Digest) string { return shortID(d.Encoded()) }
