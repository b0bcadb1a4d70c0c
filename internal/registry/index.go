package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
)

// Join puts a manifest that the repository has, by its digest, into the index
// that the reference's tag names, as the one for entry.Platform, and returns the
// descriptor of the index. What the index says of other platforms stays as it is,
// byte for byte; a tag that names nothing, or the manifest itself, gets a new
// index. A tag that names another manifest is errdefs.ErrConflict, for nobody
// says what platform that is for.
//
// Registries have no way to change a tag only if it is as it was read: of two
// that join at the same moment, the later one may win.
func (r *Repository) Join(ctx context.Context, entry ocispec.Descriptor) (ocispec.Descriptor, error) {
	e, err := r.origin()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	// A mirror may not know yet what the registry has by now.
	origin := &Repository{c: r.c, ref: r.ref, header: r.header, endpoints: []*endpoint{e}, distrusted: make(map[distrust]bool)}
	old, err := origin.Resolve(ctx)
	if err != nil && !errdefs.IsNotFound(err) {
		return ocispec.Descriptor{}, err
	}
	desc, raw, err := joined(old, entry)
	if err != nil {
		if tagged, ok := r.ref.(reference.Tagged); ok && errdefs.IsConflict(err) {
			err = outlet.Errorf(errdefs.ErrConflict, "tag %s %w", tagged.Tag(), err)
		}
		return ocispec.Descriptor{}, err
	}
	if int64(len(raw)) > r.c.cfg.MaxManifest {
		return ocispec.Descriptor{}, errTooLarge("index", r.c.cfg.MaxManifest)
	}
	if desc.Digest == old.Descriptor.Digest {
		return desc, nil
	}
	return desc, r.PushManifest(ctx, desc, raw)
}

// indexEntry is what decides of an entry; the rest of it is kept as it is.
type indexEntry struct {
	Digest      digest.Digest     `json:"digest"`
	Platform    *ocispec.Platform `json:"platform"`
	Annotations map[string]string `json:"annotations"`
}

// joined is the index old, which may be none, with the entry in its place.
func joined(old Manifest, entry ocispec.Descriptor) (ocispec.Descriptor, []byte, error) {
	doc := map[string]json.RawMessage{"schemaVersion": json.RawMessage("2")}
	mediaType := ocispec.MediaTypeImageIndex
	if entry.MediaType == images.MediaTypeDockerSchema2Manifest {
		mediaType = images.MediaTypeDockerSchema2ManifestList
	}
	var entries []json.RawMessage
	switch {
	case old.IsIndex():
		mediaType = old.Descriptor.MediaType
		if err := json.Unmarshal(old.Raw, &doc); err != nil {
			return ocispec.Descriptor{}, nil, invalid("the index is not JSON: %w", err)
		}
		if err := json.Unmarshal(doc["manifests"], &entries); err != nil {
			return ocispec.Descriptor{}, nil, invalid("the index is not valid: %w", err)
		}
	case old.Descriptor.Digest != "" && old.Descriptor.Digest != entry.Digest:
		return ocispec.Descriptor{}, nil, outlet.Errorf(errdefs.ErrConflict,
			"names a plugin of which it does not say for what platform it is (%s): push that with its platform first, or choose another tag", old.Descriptor.Digest)
	}
	if len(entries) >= maxEntries {
		return ocispec.Descriptor{}, nil, invalid("the index has %d entries, which is as many as are accepted", len(entries))
	}
	own, err := json.Marshal(entry)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	at, gone := len(entries), digest.Digest("")
	seen := make([]indexEntry, len(entries))
	for i, raw := range entries {
		if err := json.Unmarshal(raw, &seen[i]); err != nil {
			return ocispec.Descriptor{}, nil, invalid("entry %d of the index is not valid: %w", i+1, err)
		}
		if p := seen[i].Platform; p != nil && samePlatform(*p, *entry.Platform) && at == len(entries) {
			at, gone = i, seen[i].Digest
		}
	}
	var kept []json.RawMessage
	for i, raw := range entries {
		switch {
		case i == at && gone == entry.Digest:
			kept = append(kept, raw) // it says the same, perhaps more
		case i == at:
			kept = append(kept, own)
		case gone != "" && gone != entry.Digest && seen[i].Annotations["vnd.docker.reference.digest"] == gone.String():
			// What was attested of the one that goes.
		default:
			kept = append(kept, raw)
		}
	}
	if at == len(entries) {
		kept = append(kept, own)
	}
	if old.IsIndex() && slices.EqualFunc(kept, entries, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }) {
		return old.Descriptor, old.Raw, nil
	}
	if doc["mediaType"], err = json.Marshal(mediaType); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	if doc["manifests"], err = json.Marshal(kept); err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	raw, err := json.Marshal(doc)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, raw, nil
}

// samePlatform says whether two entries stand in for each other, whichever way
// their variant is written.
func samePlatform(a, b ocispec.Platform) bool {
	return a.OS == b.OS && a.Architecture == b.Architecture &&
		(a.Variant == b.Variant || level(a.Architecture, a.Variant) == level(b.Architecture, b.Variant) && level(a.Architecture, a.Variant) > 0)
}
