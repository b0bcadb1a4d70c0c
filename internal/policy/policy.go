package policy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet"
)

// maxFile bounds a policy and a key, in bytes.
const maxFile = 1 << 20

// Policy is the rules of a file. Its zero value allows everything.
type Policy struct {
	path string
	// Allow are the repositories plugins may come from; none is all.
	Allow []Pattern `json:"allow"`
	// Require are digests or signatures that plugins must have.
	Require []Requirement `json:"require"`
	// Forbid are privileges that no plugin may have.
	Forbid []Ban `json:"forbid"`
}

// Requirement asks for one of several digests, or for a signature by one of
// several keys, of the plugins of some repositories.
type Requirement struct {
	// Repositories are those it is about; none is all.
	Repositories []Pattern `json:"repositories"`
	// Digests are those of manifests or indexes.
	Digests []digest.Digest `json:"digests"`
	// Keys are files of public keys in PEM; relative to the policy's directory.
	Keys []string `json:"keys"`

	verifiers []verifier
}

// Ban forbids a privilege.
type Ban struct {
	// Repositories are those it is about; none is all.
	Repositories []Pattern `json:"repositories"`
	// Privilege is its name, "mount" for example.
	Privilege string `json:"privilege"`
	// Values are those that are forbidden; none is all. A mount is forbidden too
	// if it contains a forbidden path.
	Values []Pattern `json:"values"`
}

// Load reads a policy. What is wrong with it is errdefs.ErrInvalidArgument and
// names the rule.
func Load(path string) (*Policy, error) {
	raw, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	p := &Policy{path: path}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields() // a rule that is not understood must not be taken for none
	if err := dec.Decode(p); err != nil {
		return nil, p.invalid("", "%w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, p.invalid("", "there is something after the rules")
	}
	return p, p.prepare()
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = outlet.Errorf(errdefs.ErrInvalidArgument, "%s is larger than %d bytes", path, maxFile)
	}
	return raw, err
}

func (p *Policy) invalid(rule, format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrInvalidArgument, "policy %s: %s%w", p.path, rule, fmt.Errorf(format, args...))
}

// prepare checks the rules and reads the keys.
func (p *Policy) prepare() error {
	for i := range p.Require {
		r, rule := &p.Require[i], fmt.Sprintf("require[%d]: ", i)
		if len(r.Digests) == 0 && len(r.Keys) == 0 {
			return p.invalid(rule, "it names neither digests nor keys")
		}
		for _, d := range r.Digests {
			if err := d.Validate(); err != nil {
				return p.invalid(rule, "%q: %w", d, err)
			}
		}
		for _, key := range r.Keys {
			if !filepath.IsAbs(key) {
				key = filepath.Join(filepath.Dir(p.path), key)
			}
			v, err := loadKey(key)
			if err != nil {
				return p.invalid(rule, "key %s: %w", key, err)
			}
			r.verifiers = append(r.verifiers, v)
		}
	}
	for i, b := range p.Forbid {
		if b.Privilege == "" {
			return p.invalid(fmt.Sprintf("forbid[%d]: ", i), "it names no privilege")
		}
	}
	return nil
}

// refuse is a refusal, which names its rule.
func (p *Policy) refuse(rule, format string, args ...any) error {
	return outlet.Errorf(errdefs.ErrPermissionDenied, "policy %s: %s: %s", p.path, rule, fmt.Sprintf(format, args...))
}

// Find gives the signatures that were found for a plugin.
type Find = func(context.Context) ([]outlet.Signature, error)

// Check says whether a plugin may be installed; if not it is
// errdefs.ErrPermissionDenied and names the rule. signatures is called if a rule
// asks for one, and may be nil where there can be none.
func (p *Policy) Check(ctx context.Context, plugin outlet.RemotePlugin, signatures Find) error {
	repository, err := p.allowed(plugin.Reference)
	if err != nil {
		return err
	}
	for i, r := range p.Require {
		if !applies(r.Repositories, repository) {
			continue
		}
		if err := p.checkRequirement(ctx, fmt.Sprintf("require[%d]", i), r, plugin, signatures); err != nil {
			return err
		}
	}
	return p.CheckPrivileges(plugin.Reference, plugin.Privileges)
}

// CheckSource says whether anything may be installed from the repository of a
// reference, which can be known before its registry is asked; if not it is
// errdefs.ErrPermissionDenied. [Policy.Check] looks at that too.
func (p *Policy) CheckSource(source string) error {
	_, err := p.allowed(source)
	return err
}

// allowed is the repository of a reference.
func (p *Policy) allowed(source string) (repository string, err error) {
	ref, err := reference.ParseNormalizedNamed(source)
	if err != nil {
		return "", p.refuse("allow", "%.256q is no reference", source)
	}
	if len(p.Allow) > 0 && !anyMatches(p.Allow, ref.Name()) {
		return "", p.refuse("allow", "%s is not among the repositories that are allowed", ref.Name())
	}
	return ref.Name(), nil
}

// CheckPrivileges says whether a plugin that came from a reference may have
// privileges; if not it is errdefs.ErrPermissionDenied.
func (p *Policy) CheckPrivileges(source string, privileges outlet.Privileges) error {
	repository := source
	if ref, err := reference.ParseNormalizedNamed(source); err == nil {
		repository = ref.Name()
	}
	for i, b := range p.Forbid {
		if !applies(b.Repositories, repository) {
			continue
		}
		for _, have := range privileges {
			if value, found := b.bans(have); found {
				return p.refuse(fmt.Sprintf("forbid[%d]", i), "the privilege %q of %s is forbidden: %s", have.Name, repository, value)
			}
		}
	}
	return nil
}

// applies says whether a rule about repositories is about one.
func applies(of []Pattern, repository string) bool {
	return len(of) == 0 || anyMatches(of, repository)
}

// bans says whether a privilege is forbidden, and which value of it.
func (b Ban) bans(have outlet.Privilege) (value string, found bool) {
	if b.Privilege != have.Name {
		return "", false
	}
	if len(b.Values) == 0 {
		return strings.Join(have.Value, ", "), true
	}
	for _, v := range have.Value {
		if slices.ContainsFunc(b.Values, func(pattern Pattern) bool {
			if b.Privilege == "mount" || b.Privilege == "device" {
				return pattern.touches(v)
			}
			return pattern.Matches(v)
		}) {
			return v, true
		}
	}
	return "", false
}

func (p *Policy) checkRequirement(ctx context.Context, rule string, r Requirement, plugin outlet.RemotePlugin, signatures Find) error {
	digests := []digest.Digest{digest.Digest(plugin.Digest)}
	if plugin.Index != "" {
		digests = append(digests, digest.Digest(plugin.Index))
	}
	for _, d := range digests {
		if slices.Contains(r.Digests, d) {
			return nil
		}
	}
	if len(r.verifiers) == 0 {
		return p.refuse(rule, "%s is none of the digests that are required", plugin.Digest)
	}
	var found []outlet.Signature
	if signatures != nil {
		var err error
		if found, err = signatures(ctx); err != nil {
			return fmt.Errorf("policy %s: %s: look for signatures: %w", p.path, rule, err)
		}
	}
	if len(found) == 0 {
		return p.refuse(rule, "%s has no signature", plugin.Digest)
	}
	why := "none of its signatures is by a key that is required"
	for _, s := range found {
		for _, v := range r.verifiers {
			switch err := v.verify(s, digests); {
			case err == nil:
				return nil
			case !isWrongKey(err):
				why = err.Error()
			}
		}
	}
	return p.refuse(rule, "%s: %s", plugin.Digest, why)
}
