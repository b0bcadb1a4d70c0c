package policy

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		matches    bool
		touches    bool
	}{
		{"docker.io/example/dirvol", "docker.io/example/dirvol", true, true},
		{"docker.io/example/*", "docker.io/example/dirvol", true, true},
		{"docker.io/example/*", "docker.io/example/a/b", false, false},
		{"docker.io/example/**", "docker.io/example/a/b", true, true},
		{"docker.io/**", "docker.io.evil.org/x", false, false},
		{"registry.lan:5000/**", "registry.lan:5000/x", true, true},
		{"registry.lan/**", "registry.lan:5000/x", false, false},
		{"*", "docker.io/example", false, false},
		{"**", "anything/at/all", true, true},
		{"CAP_SYS_*", "CAP_SYS_ADMIN", true, true},
		{"CAP_SYS_*", "CAP_NET_ADMIN", false, false},
		{"/etc/**", "/etc", true, true},
		{"/etc/**", "/etc/ssh/x", true, true},
		{"/etc/**", "/etcetera", false, false},
		{"/etc/ssh", "/etc", false, true}, // it contains it
		{"/etc/ssh", "/", false, true},
		{"/etc/ssh", "/srv/../etc/./ssh/", false, true},
		{"/etc/ssh", "/etc/passwd", false, false},
		{"/srv/*/secret", "/srv/a", false, true},
		{"/srv/*/secret", "/srv/a/secret", true, true},
		{"/srv/*/secret", "/srv/a/public", false, false},
		{"/var/run/docker.sock", "/var/run/docker.sock", true, true},
	} {
		var p Pattern
		if err := p.UnmarshalText([]byte(c.pattern)); err != nil {
			t.Fatal(err)
		}
		if p.Matches(c.s) != c.matches || p.touches(c.s) != c.touches {
			t.Errorf("%s and %s: matches %v, touches %v", c.pattern, c.s, p.Matches(c.s), p.touches(c.s))
		}
	}
	for _, bad := range []string{"", "a/**/b", "a**", "[", "**/x", "a/**/**"} {
		var p Pattern
		if p.UnmarshalText([]byte(bad)) == nil {
			t.Errorf("%q is a pattern", bad)
		}
	}
}

// key makes a key, its file, and what signs with it.
type key struct {
	file string
	sign func(t *testing.T, payload []byte) outlet.Signature
}

func newKey(t *testing.T, kind string) key {
	t.Helper()
	var private crypto.Signer
	var err error
	switch kind {
	case "ecdsa":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "rsa":
		private, err = rsa.GenerateKey(rand.Reader, 2048)
	case "short":
		private, err = rsa.GenerateKey(rand.Reader, 1024)
	default:
		_, private, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pub")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return key{file: file, sign: func(t *testing.T, payload []byte) outlet.Signature {
		t.Helper()
		sum, hash := sha256.Sum256(payload), crypto.SHA256
		message := sum[:]
		if kind == "ed25519" {
			message, hash = payload, crypto.Hash(0)
		}
		sig, err := private.Sign(rand.Reader, message, hash)
		if err != nil {
			t.Fatal(err)
		}
		return outlet.Signature{Payload: payload, Signature: sig}
	}}
}

// payload is what cosign signs.
func payload(d digest.Digest) []byte {
	return fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"docker.io/example/dirvol"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, d)
}

func load(t *testing.T, rules string) *Policy {
	t.Helper()
	p, err := Load(write(t, rules))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, rules string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var (
	good  = digest.FromString("good")
	other = digest.FromString("other")
)

func dirvol(change ...func(*outlet.RemotePlugin)) outlet.RemotePlugin {
	p := outlet.RemotePlugin{Reference: "docker.io/example/dirvol:v1", Digest: good.String(), Privileges: outlet.Privileges{
		{Name: "mount", Value: []string{"/srv/data"}}, {Name: "capabilities", Value: []string{"CAP_NET_ADMIN", "CAP_SYS_ADMIN"}},
	}}
	for _, c := range change {
		c(&p)
	}
	return p
}

func TestRefusalsNameTheRule(t *testing.T) {
	for what, c := range map[string]struct {
		rules string
		want  string // "" is allowed
	}{
		"no rules":                      {`{}`, ""},
		"a repository that is allowed":  {`{"allow":["registry.lan/**","docker.io/example/*"]}`, ""},
		"one that is not":               {`{"allow":["registry.lan/**"]}`, "allow: docker.io/example/dirvol is not among"},
		"the right digest":              {fmt.Sprintf(`{"require":[{"digests":[%q,%q]}]}`, other, good), ""},
		"another digest":                {fmt.Sprintf(`{"require":[{"digests":[%q]}]}`, other), "require[0]: " + good.String() + " is none of the digests"},
		"a rule about others":           {fmt.Sprintf(`{"require":[{"repositories":["registry.lan/**"],"digests":[%q]}]}`, other), ""},
		"the second rule":               {fmt.Sprintf(`{"require":[{"digests":[%q]},{"digests":[%q]}]}`, good, other), "require[1]"},
		"a privilege":                   {`{"forbid":[{"privilege":"mount"}]}`, `forbid[0]: the privilege "mount"`},
		"a value of it":                 {`{"forbid":[{"privilege":"device"},{"privilege":"capabilities","values":["CAP_SYS_*"]}]}`, "forbid[1]: the privilege \"capabilities\" of docker.io/example/dirvol is forbidden: CAP_SYS_ADMIN"},
		"another value":                 {`{"forbid":[{"privilege":"capabilities","values":["CAP_BPF"]}]}`, ""},
		"a mount that contains a path":  {`{"forbid":[{"privilege":"mount","values":["/srv/data/secret"]}]}`, "forbid[0]"},
		"a privilege that others asked": {`{"forbid":[{"privilege":"mount","repositories":["registry.lan/**"]}]}`, ""},
	} {
		t.Run(what, func(t *testing.T) {
			p := load(t, c.rules)
			err := p.Check(t.Context(), dirvol(), nil)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), p.path) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestSignatures(t *testing.T) {
	for _, kind := range []string{"ecdsa", "rsa", "ed25519"} {
		t.Run(kind, func(t *testing.T) {
			k, stranger := newKey(t, kind), newKey(t, kind)
			p := load(t, fmt.Sprintf(`{"require":[{"keys":[%q]}]}`, k.file))
			signed := func(s ...outlet.Signature) Find {
				return func(context.Context) ([]outlet.Signature, error) { return s, nil }
			}
			changed := k.sign(t, payload(good))
			changed.Payload = payload(other)
			for what, c := range map[string]struct {
				plugin outlet.RemotePlugin
				find   Find
				want   string
			}{
				"by the key":                      {dirvol(), signed(k.sign(t, payload(good))), ""},
				"among others":                    {dirvol(), signed(stranger.sign(t, payload(good)), k.sign(t, payload(other)), k.sign(t, payload(good))), ""},
				"of the index":                    {dirvol(func(p *outlet.RemotePlugin) { p.Digest, p.Index = other.String(), good.String() }), signed(k.sign(t, payload(good))), ""},
				"none":                            {dirvol(), signed(), "has no signature"},
				"where there can be none":         {dirvol(), nil, "has no signature"},
				"by a stranger":                   {dirvol(), signed(stranger.sign(t, payload(good))), "none of its signatures is by a key"},
				"about something else":            {dirvol(), signed(k.sign(t, payload(other))), "is about"},
				"of something that was changed":   {dirvol(func(p *outlet.RemotePlugin) { p.Digest = other.String() }), signed(changed), "none of its signatures"},
				"of something that is no payload": {dirvol(), signed(k.sign(t, []byte("{"))), "cannot be read"},
				"of a payload of another kind":    {dirvol(), signed(k.sign(t, []byte(`{"critical":{"type":"atomic container signature"}}`))), "of type"},
				"of nothing":                      {dirvol(), signed(outlet.Signature{Payload: payload(good)}), "none of its signatures"},
			} {
				t.Run(what, func(t *testing.T) {
					err := p.Check(t.Context(), c.plugin, c.find)
					if c.want == "" {
						if err != nil {
							t.Fatal(err)
						}
						return
					}
					if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "require[0]") {
						t.Errorf("got %v", err)
					}
				})
			}
			broken := errors.New("the registry is away")
			err := p.Check(t.Context(), dirvol(), func(context.Context) ([]outlet.Signature, error) { return nil, broken })
			if !errors.Is(err, broken) {
				t.Errorf("signatures that cannot be looked for: %v", err)
			}
		})
	}
}

func TestADigestStandsInForASignature(t *testing.T) {
	p := load(t, fmt.Sprintf(`{"require":[{"keys":[%q],"digests":[%q]}]}`, newKey(t, "ecdsa").file, good))
	if err := p.Check(t.Context(), dirvol(), nil); err != nil {
		t.Error(err)
	}
}

func TestSettingsAreJudgedToo(t *testing.T) {
	p := load(t, `{"forbid":[{"privilege":"mount","values":["/etc/**"],"repositories":["docker.io/example/*"]}]}`)
	mount := outlet.Privileges{{Name: "mount", Value: []string{"/etc/ssh"}}}
	for reference, refused := range map[string]bool{"docker.io/example/dirvol:v1": true, "example/dirvol": true, "registry.lan/dirvol": false} {
		if err := p.CheckPrivileges(reference, mount); refused != errdefs.IsPermissionDenied(err) {
			t.Errorf("%s: %v", reference, err)
		}
	}
}

func TestAPolicyThatIsNotUnderstoodIsRefused(t *testing.T) {
	for _, rules := range []string{
		``, `[]`, `{"alow":[]}`, `{} {}`, `{"allow":["a**"]}`, `{"require":[{}]}`, `{"require":[{"digests":["x"]}]}`,
		`{"require":[{"keys":["nowhere.pub"]}]}`, `{"forbid":[{}]}`, `{"forbid":[{"privilege":"mount","value":["/"]}]}`,
		fmt.Sprintf(`{"require":[{"keys":[%q]}]}`, write(t, "no key")),
		fmt.Sprintf(`{"require":[{"keys":[%q]}]}`, newKey(t, "short").file),
	} {
		if _, err := Load(write(t, rules)); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", rules, err)
		}
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestKeysAreLookedForBesideThePolicy(t *testing.T) {
	k := newKey(t, "ecdsa")
	path := filepath.Join(filepath.Dir(k.file), "policy.json")
	if err := os.WriteFile(path, []byte(`{"require":[{"keys":["key.pub"]}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err != nil {
		t.Error(err)
	}
}
