package outlet

import (
	_ "crypto/sha256" // references hold such digests, which are only valid where it is linked
	"encoding/hex"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// Identity is what a plugin can be found by.
type Identity struct {
	ID   string
	Name string // familiar, with its tag
}

// IsID says whether s has the form of a plugin's id: 64 lower-case hexadecimal
// digits.
func IsID(s string) bool {
	if len(s) != 64 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// NewID makes an id from 32 bytes of rand. The short form of an id, its first
// 12 characters, is never a number, because that cannot be told from a name in
// some places. Errors are those of rand.
func NewID(rand io.Reader) (string, error) {
	b := make([]byte, 32)
	for {
		if _, err := io.ReadFull(rand, b); err != nil {
			return "", err
		}
		id := hex.EncodeToString(b)
		if strings.Trim(id[:12], "0123456789") != "" {
			return id, nil
		}
	}
}

// ParseName checks the name a plugin is to be created under, and returns its
// familiar form with a tag: "foo/bar" gives "foo/bar:latest". A name that does
// not parse, or has a digest, is errdefs.ErrInvalidArgument.
func ParseName(s string) (string, error) {
	ref, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return "", Errorf(errdefs.ErrInvalidArgument, "failed to parse reference %s: %w", s, err)
	}
	if _, ok := ref.(reference.Canonical); ok {
		return "", Errorf(errdefs.ErrInvalidArgument, "canonical references are not permitted")
	}
	return reference.FamiliarString(reference.TagNameOnly(ref)), nil
}

// Remote says what is pulled, and what it is called here.
type Remote struct {
	// Reference is complete: "docker.io/foo/bar:latest", or with a digest.
	Reference string
	// Name is the local name, familiar and with a tag.
	Name string
}

// ParseRemote reads the reference of a plugin in a registry and the local name
// that its user wants (name may be empty), by the rules of
// docs/spec/engine-api.md §5.1. Errors are errdefs.ErrInvalidArgument.
func ParseRemote(remote, name string) (Remote, error) {
	ref, err := reference.ParseNormalizedNamed(remote)
	if err != nil {
		return Remote{}, Errorf(errdefs.ErrInvalidArgument, "%w", err)
	}
	local := reference.TrimNamed(ref)
	if tagged, ok := ref.(reference.Tagged); ok {
		if local, err = reference.WithTag(local, tagged.Tag()); err != nil {
			return Remote{}, Errorf(errdefs.ErrInvalidArgument, "%w", err)
		}
	}
	r := Remote{
		Reference: reference.TagNameOnly(ref).String(),
		Name:      reference.FamiliarString(reference.TagNameOnly(local)),
	}
	if digested, ok := ref.(reference.Digested); ok {
		// With a digest the tag decides nothing but the local name.
		r.Reference = ref.Name() + "@" + digested.Digest().String()
	}
	if name == "" {
		return r, nil
	}
	local, err = reference.ParseNormalizedNamed(name)
	if err != nil {
		return Remote{}, Errorf(errdefs.ErrInvalidArgument, "failed to parse %q: %w", name, err)
	}
	if _, ok := local.(reference.Canonical); ok {
		return Remote{}, Errorf(errdefs.ErrInvalidArgument, "cannot use digest in plugin tag")
	}
	r.Name = reference.FamiliarString(reference.TagNameOnly(local))
	return r, nil
}

// Resolve finds what a user means by input among the plugins known, by the
// rules of docs/spec/managed-plugins.md §5.4: an id, a name (the tag "latest"
// may be left out), or the start of exactly one id. It returns the index. No
// such plugin is errdefs.ErrNotFound, several are errdefs.ErrInvalidArgument.
func Resolve(input string, known []Identity) (int, error) {
	notFound := Errorf(errdefs.ErrNotFound, "plugin %q not found", input)
	if IsID(input) {
		for i, k := range known {
			if k.ID == input {
				return i, nil
			}
		}
		return -1, notFound
	}
	ref, err := reference.ParseNormalizedNamed(input)
	if err != nil {
		return -1, notFound
	}
	if _, ok := ref.(reference.Canonical); ok {
		return -1, notFound
	}
	name := reference.FamiliarString(reference.TagNameOnly(ref))
	for i, k := range known {
		if k.Name == name {
			return i, nil
		}
	}
	found := -1
	for i, k := range known {
		if !strings.HasPrefix(k.ID, input) {
			continue
		}
		if found >= 0 {
			return -1, Errorf(errdefs.ErrInvalidArgument, "multiple plugins found for %q", input)
		}
		found = i
	}
	if found < 0 {
		return -1, notFound
	}
	return found, nil
}
