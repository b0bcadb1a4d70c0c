package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
)

// Bounds of what a document may list.
const (
	maxLayers  = 1000
	maxEntries = 10000
)

// Manifest is a document of a registry, verified and decoded.
type Manifest struct {
	// Descriptor has the type, digest (of sha256, by whichever the document was
	// asked for) and size of Raw.
	Descriptor ocispec.Descriptor
	// Raw is the document byte for byte.
	Raw []byte
	// Config and Layers are those of a manifest, Entries of an index.
	Config  ocispec.Descriptor
	Layers  []ocispec.Descriptor
	Entries []ocispec.Descriptor
}

// IsIndex says whether it lists manifests rather than layers.
func (m Manifest) IsIndex() bool { return images.IsIndexType(m.Descriptor.MediaType) }

func acceptable() []string {
	return []string{
		images.MediaTypeDockerSchema2Manifest, images.MediaTypeDockerSchema2ManifestList,
		ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex,
	}
}

// Resolve reads what the reference names: its digest if it has one, else its
// tag. A reference that is not there is errdefs.ErrNotFound, a document that is
// none of the known ones errdefs.ErrInvalidArgument.
func (r *Repository) Resolve(ctx context.Context) (Manifest, error) {
	object, wanted := "latest", digest.Digest("")
	if tagged, ok := r.ref.(reference.Tagged); ok {
		object = tagged.Tag()
	}
	if digested, ok := r.ref.(reference.Digested); ok {
		wanted = digested.Digest()
		object = wanted.String()
	}
	m, err := r.document(ctx, object, wanted, []string{join(acceptable()) + ", */*"})
	if err == nil && m.Descriptor.MediaType != images.MediaTypeDockerSchema1Manifest {
		return m, nil
	}
	var answer *Error
	if err != nil && (!asError(err, &answer) || answer.Status != http.StatusBadRequest && answer.Status != http.StatusNotAcceptable &&
		answer.Status != http.StatusInternalServerError) {
		return m, err
	}
	// Registries that do not split lists answer with an error or schema 1.
	again, aerr := r.document(ctx, object, wanted, acceptable())
	if aerr == nil && again.Descriptor.MediaType != images.MediaTypeDockerSchema1Manifest {
		return again, nil
	}
	if err == nil {
		err = errSchema1(m.Descriptor.MediaType)
	}
	return Manifest{}, err
}

func errSchema1(mediaType string) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, "manifests of schema 1 (%s) are not supported: push it again with a current tool", mediaType)
}

// Manifest reads the manifest or index that desc, of an index, names. It must be
// what desc says of it: whoever decides by the index alone must not be shown
// something else than whoever reads on.
func (r *Repository) Manifest(ctx context.Context, desc ocispec.Descriptor) (Manifest, error) {
	if err := desc.Digest.Validate(); err != nil {
		return Manifest{}, invalid("manifest: %w", err)
	}
	if desc.Size > r.c.cfg.MaxManifest {
		return Manifest{}, errTooLarge("manifest", r.c.cfg.MaxManifest)
	}
	m, err := r.document(ctx, desc.Digest.String(), desc.Digest, []string{join(acceptable()) + ", */*"})
	if err != nil {
		return Manifest{}, err
	}
	switch got := m.Descriptor; {
	case got.MediaType == images.MediaTypeDockerSchema1Manifest:
		return Manifest{}, errSchema1(got.MediaType)
	case got.Size != desc.Size:
		return Manifest{}, invalid("the index says that the manifest %s has %d bytes, it has %d", desc.Digest, desc.Size, got.Size)
	case desc.MediaType != "" && got.MediaType != desc.MediaType:
		return Manifest{}, invalid("the index calls the manifest %s %q, it is %q", desc.Digest, clip(desc.MediaType), got.MediaType)
	}
	return m, nil
}

func join(l []string) string {
	var b bytes.Buffer
	for i, s := range l {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(s)
	}
	return b.String()
}

// document reads a manifest or index; wanted, if not "", is its digest.
func (r *Repository) document(ctx context.Context, object string, wanted digest.Digest, accept []string) (Manifest, error) {
	caps := docker.HostCapabilityPull
	if wanted == "" {
		caps |= docker.HostCapabilityResolve
	}
	q := request{method: http.MethodGet, path: "manifests/" + object, header: http.Header{"Accept": accept}}
	for attempt := 1; ; attempt++ {
		m, err := r.documentOnce(ctx, caps, wanted, q)
		if !errors.Is(err, errBody) || errors.Is(err, errLate) || attempt >= r.c.cfg.Attempts || ctx.Err() != nil {
			return m, err
		}
		if err := sleep(ctx, retryPolicy{c: r.c}.backoff(attempt)); err != nil {
			return Manifest{}, err
		}
	}
}

// errBody is the cause of what broke off after its answer had begun: making the
// request again is up to who reads.
var errBody = errors.New("the answer broke off")

func (r *Repository) documentOnce(ctx context.Context, caps docker.HostCapabilities, wanted digest.Digest, q request) (Manifest, error) {
	var m Manifest
	err := r.read(ctx, caps, distrust{of: wanted}, q, []int{http.StatusOK}, func(e *endpoint, resp *http.Response) error {
		raw, err := r.readBounded(e, resp, r.c.cfg.MaxManifest, "manifest")
		if err != nil {
			return err
		}
		algorithm := digest.Canonical
		if wanted != "" {
			algorithm = wanted.Algorithm()
		} else if said := digest.Digest(resp.Header.Get("Docker-Content-Digest")); said != "" && said.Validate() == nil {
			wanted, algorithm = said, said.Algorithm()
		}
		got := algorithm.FromBytes(raw)
		if wanted != "" && got != wanted {
			return &Error{Host: e.Host, Reason: fmt.Sprintf("it sent a manifest of digest %s for %s", got, wanted)}
		}
		mediaType, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")) // none is looked for in the document
		m, err = ParseManifest(raw, mediaType)
		return err
	})
	return m, err
}

// readBounded reads and closes a body of at most limit bytes.
func (r *Repository) readBounded(e *endpoint, resp *http.Response, limit int64, what string) ([]byte, error) {
	defer resp.Body.Close() // only read from
	if resp.ContentLength > limit {
		return nil, errTooLarge(what, limit)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, &Error{Host: e.Host, Reason: "read the " + what + ": " + err.Error(), Err: errors.Join(errBody, err)}
	}
	if int64(len(raw)) > limit {
		return nil, errTooLarge(what, limit)
	}
	return raw, nil
}

func errTooLarge(what string, limit int64) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, "the %s is larger than %d bytes", what, limit)
}

// ParseManifest decodes a manifest or an index. mediaType is what the registry
// said it is; the document's own word has to agree with it where both are known.
// Errors are errdefs.ErrInvalidArgument.
func ParseManifest(raw []byte, mediaType string) (Manifest, error) {
	var doc struct {
		SchemaVersion int         `json:"schemaVersion"`
		MediaType     string      `json:"mediaType"`
		Config        *descriptor `json:"config"`
		Layers        descriptors `json:"layers"`
		Manifests     descriptors `json:"manifests"`
	}
	m := Manifest{Raw: raw, Descriptor: ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}}
	if mediaType == images.MediaTypeDockerSchema1Manifest || mediaType == images.MediaTypeDockerSchema1Manifest+"+json" ||
		mediaType == "application/vnd.docker.distribution.manifest.v1+json" {
		m.Descriptor.MediaType = images.MediaTypeDockerSchema1Manifest
		return m, nil // its user refuses it, by name
	}
	if err := json.Unmarshal(raw, &doc); errors.Is(err, errTooMany) {
		return Manifest{}, invalid("the manifest lists more than %d manifests or layers", maxEntries)
	} else if err != nil {
		// A text about a number has all its digits.
		return Manifest{}, invalid("the manifest is not JSON of its kind: %s", clip(err.Error()))
	}
	if doc.SchemaVersion == 1 {
		m.Descriptor.MediaType = images.MediaTypeDockerSchema1Manifest
		return m, nil
	}
	if !known(mediaType) { // application/json, text/plain, octets
		m.Descriptor.MediaType = doc.MediaType
		if doc.MediaType == "" && doc.Manifests != nil {
			m.Descriptor.MediaType = ocispec.MediaTypeImageIndex
		} else if doc.MediaType == "" && doc.Config != nil {
			m.Descriptor.MediaType = ocispec.MediaTypeImageManifest
		}
	} else if doc.MediaType != "" && doc.MediaType != mediaType {
		return Manifest{}, invalid("the registry calls the manifest %q, it calls itself %q", mediaType, clip(doc.MediaType))
	}
	if !known(m.Descriptor.MediaType) {
		return Manifest{}, invalid("manifests of type %q are not supported", clip(m.Descriptor.MediaType))
	}
	if doc.SchemaVersion != 2 {
		return Manifest{}, invalid("manifests of schema version %d are not supported", doc.SchemaVersion)
	}
	// One document must not be both, or two readers see two things in it.
	if m.IsIndex() {
		if doc.Config != nil || doc.Layers != nil {
			return Manifest{}, invalid("the index has a config or layers")
		}
		m.Entries = doc.Manifests
		return m, checkDescriptors(m.Entries, maxEntries, "manifests")
	}
	if doc.Manifests != nil {
		return Manifest{}, invalid("the manifest lists manifests")
	}
	if doc.Config == nil {
		return Manifest{}, invalid("the manifest has no config")
	}
	m.Config, m.Layers = doc.Config.oci(), doc.Layers
	if err := checkDescriptors([]ocispec.Descriptor{m.Config}, 1, "config"); err != nil {
		return Manifest{}, err
	}
	return m, checkDescriptors(m.Layers, maxLayers, "layers")
}

func known(mediaType string) bool {
	return images.IsManifestType(mediaType) && mediaType != images.MediaTypeDockerSchema1Manifest || images.IsIndexType(mediaType)
}

func checkDescriptors(l []ocispec.Descriptor, most int, what string) error {
	if len(l) > most {
		return invalid("the manifest has more than %d %s", most, what)
	}
	for i := range l {
		if err := l[i].Digest.Validate(); err != nil {
			return invalid("the manifest: %s: %w", what, err)
		}
		if l[i].Digest.Algorithm() != digest.Canonical {
			return invalid("the manifest: %s: digests of %s are not supported", what, l[i].Digest.Algorithm())
		}
		if l[i].Size < 0 {
			return invalid("the manifest: %s: negative size", what)
		}
	}
	return nil
}

func invalid(format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, format, args...)
}
