package registry

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

const someDigest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

func TestParseManifest(t *testing.T) {
	desc := `{"mediaType":"x","digest":"` + someDigest + `","size":1}`
	manifest := `{"schemaVersion":2,"mediaType":"` + rt.TypeManifest + `","config":` + desc + `,"layers":[` + desc + `]}`
	for name, tt := range map[string]struct {
		doc, mediaType string
		want           string // the type it is taken for
		fails          string
	}{
		"a Docker manifest":                     {manifest, rt.TypeManifest, rt.TypeManifest, ""},
		"one whose type only it knows":          {manifest, "application/json", rt.TypeManifest, ""},
		"an OCI manifest without a type":        {`{"schemaVersion":2,"config":` + desc + `}`, "text/plain", rt.TypeOCI, ""},
		"an OCI index without a type":           {`{"schemaVersion":2,"manifests":[]}`, "", rt.TypeOCIIndex, ""},
		"schema 1 is left to be named":          {`{"schemaVersion":1}`, "application/json", rt.TypeSchemaOne, ""},
		"schema 1 by its type":                  {`whatever`, rt.TypeSchemaOne, rt.TypeSchemaOne, ""},
		"two types":                             {manifest, rt.TypeOCI, "", "calls itself"},
		"an unknown type":                       {`{"schemaVersion":2}`, "application/x", "", `manifests of type "" are not supported`},
		"a manifest that is an index too":       {`{"schemaVersion":2,"config":` + desc + `,"manifests":[]}`, rt.TypeOCI, "", "lists manifests"},
		"an index that is a manifest too":       {`{"schemaVersion":2,"config":` + desc + `,"manifests":[]}`, rt.TypeOCIIndex, "", "has a config or layers"},
		"no config":                             {`{"schemaVersion":2}`, rt.TypeManifest, "", "no config"},
		"a version of the future":               {strings.Replace(manifest, "2,", "3,", 1), rt.TypeManifest, "", "schema version 3"},
		"a bad digest":                          {strings.ReplaceAll(manifest, someDigest, "sha256:zz"), rt.TypeManifest, "", "invalid checksum digest"},
		"a digest of another kind":              {strings.ReplaceAll(manifest, someDigest, "sha512:"+strings.Repeat("a", 128)), rt.TypeManifest, "", "digests of sha512"},
		"a negative size":                       {strings.ReplaceAll(manifest, `"size":1`, `"size":-1`), rt.TypeManifest, "", "negative size"},
		"too many layers":                       {strings.Replace(manifest, "["+desc, "["+strings.Repeat(desc+",", maxLayers)+desc, 1), rt.TypeManifest, "", "more than 1000 layers"},
		"not JSON":                              {`<html>`, rt.TypeManifest, "", "not JSON"},
		"a media type that would break a line":  {"{\"schemaVersion\":2,\"mediaType\":\"a\\nb\"}", "", "", `"a b"`},
		"a document of another type than layer": {`[]`, rt.TypeManifest, "", "not JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := ParseManifest([]byte(tt.doc), tt.mediaType)
			if tt.fails != "" {
				if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tt.fails) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || m.Descriptor.MediaType != tt.want {
				t.Errorf("got %q, %v", m.Descriptor.MediaType, err)
			}
		})
	}
}

func TestSelect(t *testing.T) {
	entry := func(platform string) ocispec.Descriptor {
		d := ocispec.Descriptor{Digest: "x", Annotations: map[string]string{"is": platform}}
		parts := strings.Split(platform, "/")
		p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
		if len(parts) > 2 {
			p.Variant = parts[2]
		}
		d.Platform = &p
		return d
	}
	attestation := entry("linux/amd64")
	attestation.Annotations = map[string]string{"vnd.docker.reference.type": "attestation-manifest"}
	all := []ocispec.Descriptor{
		attestation,
		{Digest: "none"},
		entry("unknown/unknown"), entry("windows/amd64"), entry("linux/arm/v5"), entry("linux/arm/v7"), entry("linux/arm/v6"),
		entry("linux/arm64/v8"), entry("linux/amd64/v3"), entry("linux/amd64"), entry("linux/s390x"),
	}
	for want, fits := range map[string]string{
		"linux/amd64/v1": "linux/amd64", "linux/amd64/v2": "linux/amd64", "linux/amd64/v3": "linux/amd64/v3", "linux/amd64/v4": "linux/amd64/v3",
		"linux/arm64/v8": "linux/arm64/v8", "linux/arm64": "linux/arm64/v8", "linux/arm/v7": "linux/arm/v7", "linux/arm/v6": "linux/arm/v6",
		"linux/arm/v5": "linux/arm/v5", "linux/s390x": "linux/s390x", "linux/riscv64": "",
	} {
		got, err := Select(all, *entry(want).Platform)
		if fits == "" {
			const text = "no matching manifest for linux/riscv64 in the manifest list entries: it has windows/amd64, linux/arm/v5, linux/arm/v7, linux/arm/v6, linux/arm64, linux/amd64, linux/s390x"
			if err == nil || err.Error() != text {
				t.Errorf("%s: %v", want, err)
			}
			continue
		}
		if err != nil || got.Annotations["is"] != fits {
			t.Errorf("%s gets %q, %v", want, got.Annotations["is"], err)
		}
	}
}

func TestParsePlatform(t *testing.T) {
	for in, want := range map[string]ocispec.Platform{
		"arm64": {OS: "linux", Architecture: "arm64"}, "linux/arm": {OS: "linux", Architecture: "arm", Variant: "v7"},
		"Linux/ARM/v6": {OS: "linux", Architecture: "arm", Variant: "v6"}, "x86_64": {OS: "linux", Architecture: "amd64"},
	} {
		if got, err := ParsePlatform(in); err != nil || cmp.Diff(want, got) != "" {
			t.Errorf("%s: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "a/b/c/d", "linux/", "windows/amd64"} {
		if got, err := ParsePlatform(in); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for in, want := range map[string]time.Duration{"3": 3 * time.Second, now.Add(time.Minute).Format(http.TimeFormat): time.Minute, "x": -1, "": -1, "-4": -1} {
		got, ok := retryAfter(http.Header{"Retry-After": {in}}, now)
		if ok != (want >= 0) || ok && got != want {
			t.Errorf("%q: %v, %v", in, got, ok)
		}
	}
}

func TestReasonsAreOneShortLine(t *testing.T) {
	for in, want := range map[string]string{
		`{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}`: "manifest unknown",
		`{"errors":[{"code":"DENIED","message":"pay first"}]}`:                  "denied: pay first",
		`{"errors":[{"message":"a\nb"}]}`:                                       "a b",
		"<html>":                                                                "", "{}": "", "plain\x1b[31m": "plain [31m",
	} {
		if got := reason([]byte(in)); got != want {
			t.Errorf("%q: %q, not %q", in, got, want)
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":{"digest":"`+someDigest+`","size":1},"layers":[]}`), rt.TypeManifest)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"digest":"`+someDigest+`","size":1,"platform":{"os":"linux","architecture":"amd64"}}]}`), rt.TypeOCIIndex)
	f.Add([]byte(`{"schemaVersion":1}`), "")
	f.Fuzz(func(t *testing.T, raw []byte, mediaType string) {
		m, err := ParseManifest(raw, mediaType)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) || strings.ContainsAny(err.Error(), "\n\r\x1b") && !strings.Contains(err.Error(), "JSON") {
				t.Errorf("error %q", err)
			}
			return
		}
		if m.IsIndex() && (m.Config.Digest != "" || len(m.Layers) > 0) || !m.IsIndex() && len(m.Entries) > 0 {
			t.Errorf("both: %+v", m)
		}
		for _, d := range append(append(m.Layers, m.Entries...), m.Config) {
			if d.Digest != "" && d.Digest.Validate() != nil || d.Size < 0 || d.URLs != nil {
				t.Errorf("accepted %+v", d)
			}
		}
		if again, err := ParseManifest(raw, m.Descriptor.MediaType); err != nil || cmp.Diff(m, again) != "" {
			t.Errorf("read again: %+v, %v", again, err)
		}
		d, err := Select(m.Entries, ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"})
		if err == nil && (d.Platform == nil || d.Platform.Architecture != "arm") {
			t.Errorf("picked %+v", d)
		}
	})
}

func FuzzReason(f *testing.F) {
	f.Add([]byte(`{"errors":[{"code":"A_B","message":"c"}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s := reason(b); strings.ContainsAny(s, "\n\r\x1b\x00") || len(s) > maxErrorText+8 {
			t.Errorf("%q", s)
		}
	})
}
