package ocilayout

import (
	"context"
	"strings"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet/internal/registry"
)

// maxDepth is how many indexes may stand between index.json and a manifest.
const maxDepth = 2

// Item is a manifest that a layout offers for a platform.
type Item struct {
	// Ref is the name in the index, as it stands there; "" if there is none.
	Ref string
	// Name is the local name that Ref makes, familiar and with its tag; "" if
	// Ref is none or only a tag.
	Name string
	// Reference is where a plugin came from, "" if the index does not say.
	Reference string
	Manifest  registry.Manifest
}

// Document returns the verified bytes of a small blob.
type Document func(ctx context.Context, d digest.Digest) ([]byte, error)

// Items reads what the index of a layout names, and picks for each name the
// manifest that fits the platform. A name that has none for it is an error that
// says which there are. Signatures and attestations are left out.
func Items(ctx context.Context, index []byte, want ocispec.Platform, read Document) ([]Item, error) {
	top, err := registry.ParseManifest(index, ocispec.MediaTypeImageIndex)
	if err != nil {
		return nil, invalid("index.json: %w", err)
	}
	var names []string
	groups := make(map[string][]ocispec.Descriptor)
	for _, desc := range top.Entries {
		if desc.Annotations["vnd.docker.reference.type"] != "" || strings.HasSuffix(refOf(desc), ".sig") {
			continue
		}
		// Entries without a name are different things; those of one name are one
		// thing for several platforms.
		key := refOf(desc)
		if key == "" {
			key = "\x00" + desc.Digest.String()
		}
		if _, ok := groups[key]; !ok {
			names = append(names, key)
		}
		groups[key] = append(groups[key], desc)
	}
	var items []Item
	for _, key := range names {
		item, err := resolve(ctx, groups[key], want, read)
		if err != nil {
			if ref := refOf(groups[key][0]); ref != "" {
				return nil, invalid("%.256q: %w", ref, err)
			}
			return nil, err
		}
		items = append(items, item)
	}
	return items, nil
}

func resolve(ctx context.Context, entries []ocispec.Descriptor, want ocispec.Platform, read Document) (Item, error) {
	desc := entries[0]
	var err error
	if len(entries) > 1 || desc.Platform != nil && !images.IsIndexType(desc.MediaType) {
		if desc, err = registry.Select(entries, want); err != nil {
			return Item{}, err
		}
	}
	item := Item{Ref: refOf(desc), Name: nameOf(desc), Reference: desc.Annotations[AnnotationReference]}
	for depth := 0; ; depth++ {
		raw, err := read(ctx, desc.Digest)
		if err != nil {
			return Item{}, err
		}
		if int64(len(raw)) != desc.Size {
			return Item{}, invalid("manifest %s has %d bytes, the index says %d", desc.Digest, len(raw), desc.Size)
		}
		m, err := registry.ParseManifest(raw, desc.MediaType)
		if err != nil {
			return Item{}, err
		}
		if m.Descriptor.MediaType == images.MediaTypeDockerSchema1Manifest {
			return Item{}, invalid("manifests of schema 1 are not supported")
		}
		if !m.IsIndex() {
			item.Manifest = m
			return item, nil
		}
		if depth == maxDepth {
			return Item{}, invalid("the indexes of the layout are nested too deeply")
		}
		if desc, err = registry.Select(m.Entries, want); err != nil {
			return Item{}, err
		}
	}
}

// refOf is what an index calls an entry.
func refOf(desc ocispec.Descriptor) string {
	if name := desc.Annotations[AnnotationName]; name != "" {
		return name
	}
	return desc.Annotations[ocispec.AnnotationRefName]
}

// nameOf is the local name an entry stands for. The name that OCI's annotation
// holds may be a tag and nothing else, which names nothing.
func nameOf(desc ocispec.Descriptor) string {
	name := refOf(desc)
	if desc.Annotations[AnnotationName] == "" && !strings.ContainsAny(name, "/:") {
		return ""
	}
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return ""
	}
	if _, ok := ref.(reference.Digested); ok {
		return ""
	}
	return reference.FamiliarString(reference.TagNameOnly(ref))
}

// Choose picks the item that ref names: as the index calls it, or by the name
// that this makes. Without a ref there must be exactly one. Errors are
// errdefs.ErrInvalidArgument and name what there is.
func Choose(items []Item, ref string) (Item, error) {
	var names []string
	var found []Item
	for _, item := range items {
		name := item.Ref
		if name == "" {
			name = item.Manifest.Descriptor.Digest.String()
		}
		names = append(names, name)
		if ref == "" || ref == item.Ref || item.Name != "" && item.Name == localName(ref) {
			found = append(found, item)
		}
	}
	there := "nothing"
	if len(names) > 0 {
		there = strings.Join(names[:min(len(names), 20)], ", ")
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case ref == "":
		return Item{}, invalid("one image must be chosen from the layout, which has %s", there)
	case len(found) > 1:
		return Item{}, invalid("%.256q is ambiguous in the layout, which has %s", ref, there)
	}
	return Item{}, invalid("the layout has no %.256q; it has %s", ref, there)
}

func localName(ref string) string {
	return nameOf(ocispec.Descriptor{Annotations: map[string]string{AnnotationName: ref}})
}

// SignatureTag is the tag under which cosign keeps the signatures of a manifest.
func SignatureTag(d digest.Digest) string {
	return string(d.Algorithm()) + "-" + d.Encoded() + ".sig"
}

// Signatures reads the manifest of the signatures of another one; false is none.
func Signatures(ctx context.Context, index []byte, of digest.Digest, read Document) (registry.Manifest, bool, error) {
	top, err := registry.ParseManifest(index, ocispec.MediaTypeImageIndex)
	if err != nil {
		return registry.Manifest{}, false, invalid("index.json: %w", err)
	}
	for _, desc := range top.Entries {
		ref := refOf(desc)
		if i := strings.LastIndexByte(ref, ':'); i >= 0 {
			ref = ref[i+1:]
		}
		if ref != SignatureTag(of) {
			continue
		}
		raw, err := read(ctx, desc.Digest)
		if err != nil {
			return registry.Manifest{}, false, err
		}
		m, err := registry.ParseManifest(raw, desc.MediaType)
		return m, err == nil, err
	}
	return registry.Manifest{}, false, nil
}
