package registry

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// entryFor is an entry of an index.
func entryFor(mediaType, content, os, arch, variant string) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: mediaType, Digest: digest.FromString(content), Size: int64(len(content)),
		Platform: &ocispec.Platform{OS: os, Architecture: arch, Variant: variant},
	}
}

func TestWhatJoinsAnIndexLeavesTheRestAsItIs(t *testing.T) {
	const docker, oci = images.MediaTypeDockerSchema2Manifest, ocispec.MediaTypeImageManifest
	parse := func(raw string) Manifest {
		m, err := ParseManifest([]byte(raw), "")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	raw := func(d ocispec.Descriptor) string {
		b, err := json.Marshal(d)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	index := func(mediaType, more string, entries ...string) Manifest {
		return parse(fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q%s,"manifests":[%s]}`, mediaType, more, strings.Join(entries, ",")))
	}
	amd := entryFor(docker, "amd64", "linux", "amd64", "")
	arm := entryFor(docker, "arm64", "linux", "arm64", "")
	strange := fmt.Sprintf(`{"mediaType":%q, "digest":%q,"size":7,"platform":{"os":"linux","architecture":"s390x","os.features":["x"]},"urls":["http://a"],"later":{"b":1}}`,
		docker, digest.FromString("strange"))
	attested := func(of ocispec.Descriptor) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":3,"platform":{"os":"unknown","architecture":"unknown"},"annotations":{"vnd.docker.reference.type":"attestation-manifest","vnd.docker.reference.digest":%q}}`,
			oci, digest.FromString("attested "+of.Digest.String()), of.Digest)
	}
	again := amd
	again.Digest, again.Size = digest.FromString("amd64 again"), 11
	variant := entryFor(docker, "amd64 v2", "linux", "amd64", "v2")
	v7 := entryFor(docker, "v7", "linux", "arm", "v7")
	for name, c := range map[string]struct {
		old       Manifest
		entry     ocispec.Descriptor
		mediaType string
		want      []string
		err       error
	}{
		"none, Docker's types":       {Manifest{}, amd, images.MediaTypeDockerSchema2ManifestList, []string{raw(amd)}, nil},
		"none, OCI's types":          {Manifest{}, entryFor(oci, "x", "linux", "amd64", ""), ocispec.MediaTypeImageIndex, []string{raw(entryFor(oci, "x", "linux", "amd64", ""))}, nil},
		"another platform":           {index(images.MediaTypeDockerSchema2ManifestList, "", raw(amd)), arm, images.MediaTypeDockerSchema2ManifestList, []string{raw(amd), raw(arm)}, nil},
		"the type stays":             {index(ocispec.MediaTypeImageIndex, "", raw(amd)), arm, ocispec.MediaTypeImageIndex, []string{raw(amd), raw(arm)}, nil},
		"what is not known stays":    {index(ocispec.MediaTypeImageIndex, `,"annotations":{"a":"b"},"subject":null`, strange, raw(amd)), arm, ocispec.MediaTypeImageIndex, []string{strange, raw(amd), raw(arm)}, nil},
		"another version":            {index(ocispec.MediaTypeImageIndex, "", raw(amd), raw(arm)), again, ocispec.MediaTypeImageIndex, []string{raw(again), raw(arm)}, nil},
		"the same":                   {index(ocispec.MediaTypeImageIndex, "", strange, raw(arm)), arm, ocispec.MediaTypeImageIndex, []string{strange, raw(arm)}, nil},
		"a variant of another level": {index(ocispec.MediaTypeImageIndex, "", raw(amd), raw(v7)), entryFor(docker, "v6", "linux", "arm", "v6"), ocispec.MediaTypeImageIndex, []string{raw(amd), raw(v7), raw(entryFor(docker, "v6", "linux", "arm", "v6"))}, nil},
		"what was attested goes too": {index(ocispec.MediaTypeImageIndex, "", raw(amd), attested(amd), raw(arm), attested(arm)), again, ocispec.MediaTypeImageIndex, []string{raw(again), raw(arm), attested(arm)}, nil},
		"the manifest itself":        {Manifest{Descriptor: ocispec.Descriptor{MediaType: docker, Digest: amd.Digest}}, amd, images.MediaTypeDockerSchema2ManifestList, []string{raw(amd)}, nil},
		"another manifest":           {Manifest{Descriptor: ocispec.Descriptor{MediaType: docker, Digest: arm.Digest}}, amd, "", nil, errdefs.ErrConflict},
		"levels of amd64 are apart":  {index(ocispec.MediaTypeImageIndex, "", raw(amd)), variant, ocispec.MediaTypeImageIndex, []string{raw(amd), raw(variant)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			desc, doc, err := joined(c.old, c.entry)
			if !errors.Is(err, c.err) {
				t.Fatal(err)
			}
			if err != nil {
				return
			}
			var got struct {
				SchemaVersion int
				MediaType     string
				Manifests     []json.RawMessage
				Annotations   json.RawMessage
			}
			if err := json.Unmarshal(doc, &got); err != nil {
				t.Fatal(err)
			}
			var entries []string
			for _, e := range got.Manifests {
				entries = append(entries, string(e))
			}
			// Space between tokens is no matter.
			want := make([]string, len(c.want))
			for i, w := range c.want {
				want[i] = strings.ReplaceAll(w, `, "digest"`, `,"digest"`)
			}
			for i, e := range entries {
				entries[i] = strings.ReplaceAll(e, `, "digest"`, `,"digest"`)
			}
			if diff := cmp.Diff(want, entries); diff != "" {
				t.Errorf("entries (-want +got):\n%s", diff)
			}
			if desc.MediaType != c.mediaType || got.MediaType != c.mediaType || got.SchemaVersion != 2 {
				t.Errorf("%s: version %d of %s, not of %s", desc.MediaType, got.SchemaVersion, got.MediaType, c.mediaType)
			}
			if desc.Digest != digest.FromBytes(doc) || desc.Size != int64(len(doc)) {
				t.Errorf("%+v of %d bytes", desc, len(doc))
			}
			if strings.Contains(string(c.old.Raw), `"annotations":{"a":"b"}`) && string(got.Annotations) != `{"a":"b"}` {
				t.Errorf("annotations %s", got.Annotations)
			}
			// It is one that is understood, and has the platform.
			if _, err := ParseManifest(doc, desc.MediaType); err != nil {
				t.Error(err)
			}
			if same := name == "the same"; same != (string(doc) == string(c.old.Raw)) {
				t.Errorf("unchanged: %v", !same)
			}
		})
	}
}
