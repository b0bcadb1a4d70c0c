package manager

import (
	"context"
	"encoding/base64"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/ocilayout"
	"github.com/outletd/outlet/internal/registry"
	"github.com/outletd/outlet/internal/store"
)

const (
	// simpleSigningType is the type of what cosign signs, and
	// signatureAnnotation holds the signature of such a blob.
	simpleSigningType   = "application/vnd.dev.cosign.simplesigning.v1+json"
	signatureAnnotation = "dev.cosignproject.cosign/signature"
	// maxSignatures bounds what is read of one plugin's signatures.
	maxSignatures = 100
)

// FindSignatures gives the signatures that are beside a plugin, verified or not;
// none is no error.
type FindSignatures = func(context.Context) ([]outlet.Signature, error)

// signatureTag is where cosign keeps the signatures of a manifest.
func signatureTag(d digest.Digest) string { return ocilayout.SignatureTag(d) }

// signaturesOf reads the blobs of a manifest of signatures.
func signaturesOf(ctx context.Context, m registry.Manifest, read func(context.Context, ocispec.Descriptor) ([]byte, error)) ([]outlet.Signature, error) {
	var found []outlet.Signature
	for _, l := range m.Layers {
		encoded := l.Annotations[signatureAnnotation]
		if l.MediaType != simpleSigningType || encoded == "" || len(found) == maxSignatures {
			continue
		}
		sig, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			continue // it is none, and there may be others
		}
		payload, err := read(ctx, l)
		if err != nil {
			return nil, err
		}
		found = append(found, outlet.Signature{Payload: payload, Signature: sig})
	}
	return found, nil
}

// signatures finds those beside what a reference named: of its manifest and, if
// that came from an index, of the index.
func (r *remote) signatures(ctx context.Context) ([]outlet.Signature, error) {
	digests := []digest.Digest{r.manifest.Descriptor.Digest}
	if r.index != "" {
		digests = append(digests, r.index)
	}
	var all []outlet.Signature
	for _, d := range digests {
		m, err := r.repo.Tag(ctx, signatureTag(d))
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found, err := signaturesOf(ctx, m, r.repo.Config)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// stagedSignatures finds those that came in the same layout.
func (m *Manager) stagedSignatures(stage *store.Stage, index []byte, d digest.Digest) FindSignatures {
	return func(ctx context.Context) ([]outlet.Signature, error) {
		manifest, ok, err := ocilayout.Signatures(ctx, index, d, stageDocuments(stage))
		if err != nil || !ok {
			return nil, err
		}
		found, err := signaturesOf(ctx, manifest, func(ctx context.Context, desc ocispec.Descriptor) ([]byte, error) {
			if err := stage.Check(desc); err != nil {
				return nil, err
			}
			return stage.Document(ctx, desc.Digest, ocilayout.MaxDocument)
		})
		if err != nil {
			return nil, fmt.Errorf("signatures of %s: %w", d, err)
		}
		return found, nil
	}
}

// effective are the privileges that settings make of a config: what its user
// chose, not what its author proposed.
func effective(cfg outlet.Config, s outlet.Settings) outlet.Privileges {
	cfg = cfg.Clone()
	cfg.Mounts, cfg.Linux.Devices = s.Mounts, s.Devices
	return outlet.RequiredPrivileges(cfg)
}
