package registry

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/cpu"
)

// HostPlatform is what this machine runs: its variant is the highest.
func HostPlatform() ocispec.Platform {
	p := ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	switch runtime.GOARCH {
	case "amd64":
		p.Variant = amd64Variant()
	case "arm64":
		p.Variant = "v8"
	case "arm":
		p.Variant = armVariant()
	}
	return p
}

// amd64Variant is the level of the processor, as far as it can be told.
func amd64Variant() string {
	x := cpu.X86
	switch {
	case !x.HasSSE3 || !x.HasSSSE3 || !x.HasSSE41 || !x.HasSSE42 || !x.HasPOPCNT || !x.HasCX16:
		return "v1"
	case !x.HasAVX || !x.HasAVX2 || !x.HasBMI1 || !x.HasBMI2 || !x.HasFMA || !x.HasOSXSAVE:
		return "v2"
	case !x.HasAVX512F || !x.HasAVX512BW || !x.HasAVX512CD || !x.HasAVX512DQ || !x.HasAVX512VL:
		return "v3"
	}
	return "v4"
}

// ParsePlatform reads "linux/arm64", "linux/arm/v7" or "arm64". What is not
// given of a variant is what the architecture begins with.
func ParsePlatform(s string) (ocispec.Platform, error) {
	parts := strings.Split(strings.ToLower(s), "/")
	if len(parts) == 1 {
		parts = []string{"linux", parts[0]}
	}
	if len(parts) > 3 || slices.Contains(parts, "") {
		return ocispec.Platform{}, invalid("%q is not a platform such as linux/arm64", s)
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	switch p.Architecture {
	case "x86_64", "x86-64":
		p.Architecture = "amd64"
	case "aarch64":
		p.Architecture = "arm64"
	}
	if len(parts) == 3 {
		p.Variant = parts[2]
	} else if p.Architecture == "arm" {
		p.Variant = "v7"
	}
	if p.OS != "linux" {
		return ocispec.Platform{}, invalid("plugins for %s are not supported", p.OS)
	}
	return p, nil
}

// level orders the variants of an architecture; 0 is one that is not known.
func level(arch, variant string) int {
	var known []string
	switch arch {
	case "amd64":
		known = []string{"v1", "v2", "v3", "v4"}
		if variant == "" {
			variant = "v1"
		}
	case "arm":
		known = []string{"v5", "v6", "v7"}
		if variant == "" {
			variant = "v7" // what it stands for by convention
		}
	case "arm64":
		known = []string{"v8"}
		if variant == "" {
			variant = "v8"
		}
	default:
		known = []string{""}
	}
	return slices.Index(known, variant) + 1
}

// Select picks the entry of an index for a platform: of those that fit the one
// with the highest variant, and of equals the first. Attestations and entries of
// no platform are passed over. If none fits the error (errdefs.ErrInvalidArgument)
// names the platforms there are.
func Select(entries []ocispec.Descriptor, want ocispec.Platform) (ocispec.Descriptor, error) {
	most := level(want.Architecture, want.Variant)
	best, found := 0, -1
	var have []string
	seen := make(map[string]bool) // an index may have thousands
	for i, d := range entries {
		if _, ok := d.Annotations["vnd.docker.reference.type"]; ok || d.Platform == nil || d.Platform.OS == "unknown" || d.Platform.Architecture == "unknown" {
			continue
		}
		p := *d.Platform
		if name := platformName(p); !seen[name] {
			seen[name] = true
			have = append(have, name)
		}
		l := level(p.Architecture, p.Variant)
		if p.OS == want.OS && p.Architecture == want.Architecture && l > best && l <= most {
			best, found = l, i
		}
	}
	if found < 0 {
		text := "it has none"
		if len(have) > 0 {
			text = "it has " + clip(strings.Join(have, ", "))
		}
		return ocispec.Descriptor{}, invalid("no matching manifest for %s in the manifest list entries: %s", platformName(want), text)
	}
	return entries[found], nil
}

// platformName is "linux/arm/v7"; a variant that says nothing is left out.
func platformName(p ocispec.Platform) string {
	if p.Variant == "" || p.Architecture == "amd64" || p.Architecture == "arm64" && p.Variant == "v8" {
		return fmt.Sprintf("%s/%s", p.OS, p.Architecture)
	}
	return fmt.Sprintf("%s/%s/%s", p.OS, p.Architecture, p.Variant)
}
