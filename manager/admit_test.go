package manager

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
	"github.com/outletd/outlet/internal/policy"
	rt "github.com/outletd/outlet/internal/testutil/registrytest"
)

// rules makes a manager ask a policy.
func rules(t *testing.T, text string) func(*Config) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *Config) {
		quick(c)
		c.Admit, c.AdmitSource = p.Check, p.CheckSource
		c.AdmitSettings = p.CheckPrivileges
	}
}

// cosigner signs as cosign does.
type cosigner struct {
	key  *ecdsa.PrivateKey
	file string // of the public key
}

func newCosigner(t *testing.T) cosigner {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	c := cosigner{key: key, file: filepath.Join(t.TempDir(), "cosign.pub")}
	if err := os.WriteFile(c.file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c cosigner) sign(t *testing.T, d string) (payload []byte, signature string) {
	t.Helper()
	payload = fmt.Appendf(nil, `{"critical":{"identity":{"docker-reference":"any"},"image":{"docker-manifest-digest":%q},"type":"cosign container image signature"},"optional":null}`, d)
	sum := sha256.Sum256(payload)
	sig, err := ecdsa.SignASN1(rand.Reader, c.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return payload, base64.StdEncoding.EncodeToString(sig)
}

// push puts the signature of a manifest beside it.
func (c cosigner) push(t *testing.T, reg *rt.Registry, repo, d string) {
	t.Helper()
	payload, signature := c.sign(t, d)
	layer := reg.PutBlob(t, repo, simpleSigningType, payload)
	config := reg.PutBlob(t, repo, ocispec.MediaTypeImageConfig, []byte("{}"))
	reg.PutManifest(t, repo, strings.Replace(d, ":", "-", 1)+".sig", ocispec.MediaTypeImageManifest, rt.JSON(t, map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": config,
		"layers": []any{map[string]any{
			"mediaType": layer.MediaType, "digest": layer.Digest, "size": layer.Size,
			"annotations": map[string]string{signatureAnnotation: signature},
		}},
	}))
}

func TestOnlyWhatIsSignedIsInstalledWhereSignaturesAreRequired(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	owner, stranger := newCosigner(t), newCosigner(t)
	good, _ := reg.Put(t, "a/good", "1", simple(t, "good", nil))
	bad, _ := reg.Put(t, "a/bad", "1", simple(t, "bad", nil))
	reg.Put(t, "a/unsigned", "1", simple(t, "unsigned", nil))
	owner.push(t, reg, "a/good", good.Digest)
	stranger.push(t, reg, "a/bad", bad.Digest)
	f := newFixture(t, rules(t, fmt.Sprintf(`{"require":[{"keys":[%q]}]}`, owner.file)))
	if _, err := f.pull(reg.Host+"/a/good:1", nil); err != nil {
		t.Error(err)
	}
	for repo, want := range map[string]string{"a/bad": "none of its signatures", "a/unsigned": "has no signature"} {
		_, err := f.pull(reg.Host+"/"+repo+":1", nil)
		if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "require[0]") || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", repo, err)
		}
		_, err = f.Upgrade(t.Context(), reg.Host+"/a/good:1", reg.Host+"/"+repo+":1", outlet.UpgradeOptions{}, nil)
		if !errdefs.IsPermissionDenied(err) {
			t.Errorf("upgrade to %s: %v", repo, err)
		}
	}
	if got, err := f.read(reg.Host+"/a/good:1", "bin/plugin"); err != nil || got != "good" {
		t.Errorf("it holds %q, %v", got, err)
	}
	f.clean()
}

func TestARegistryThatIsNotAllowedIsNotAsked(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	reg.Put(t, "a/b", "1", simple(t, "x", nil))
	front := rt.Before(t, reg)
	f := newFixture(t, rules(t, `{"allow":["registry.example/*"]}`))
	f.create("here")
	for name, ask := range map[string]func(ref string) error{
		"privileges": func(ref string) error {
			_, err := f.Remote(t.Context(), ref, outlet.RemoteOptions{})
			return err
		},
		"install": func(ref string) error {
			_, err := f.pull(ref, nil)
			return err
		},
		"upgrade": func(ref string) error {
			_, err := f.Upgrade(t.Context(), "here", ref, outlet.UpgradeOptions{}, nil)
			return err
		},
		"create --image": func(ref string) error {
			_, _, err := f.CreateFromImage(t.Context(), "of/image", nil, outlet.ImageOptions{Config: rawConfig(t, sampleConfig()), Ref: ref})
			return err
		},
	} {
		if err := ask(front.Host + "/a/b:1"); !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "allow") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := front.Served(""); n != 0 {
		t.Errorf("it was asked %d times", n)
	}
	f.clean()
}

func TestForbiddenPrivilegesAreRefusedWhateverWayTheyCome(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	mount := func(source string) map[string]any {
		return map[string]any{"mounts": []any{map[string]any{"name": "data", "source": source, "destination": "/data", "type": "bind", "options": []string{"rbind"}, "settable": []string{"source"}}}}
	}
	reg.Put(t, "a/b", "1", simple(t, "x", mount("/srv")))
	reg.Put(t, "a/b", "2", simple(t, "x", mount("/etc/ssh")))
	free := newFixture(t)
	free.create("sample", func(c *outlet.Config) {
		source := "/etc"
		c.Mounts = []outlet.Mount{{Name: "data", Source: &source, Destination: "/data", Type: "bind"}}
	})
	archive := free.save("sample")
	f := newFixture(t, rules(t, `{"forbid":[{"privilege":"mount","values":["/etc/**"]}]}`))
	refused := func(what string, err error) {
		t.Helper()
		if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "forbid[0]") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := f.pull(reg.Host+"/a/b:1", nil); err != nil {
		t.Fatal(err)
	}
	_, err := f.pull(reg.Host+"/a/b:2", nil)
	refused("install", err)
	two, err := f.Remote(t.Context(), reg.Host+"/a/b:2", outlet.RemoteOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Upgrade(t.Context(), reg.Host+"/a/b:1", reg.Host+"/a/b:2", outlet.UpgradeOptions{Granted: two.Privileges}, nil)
	refused("upgrade", err)
	_, err = f.Load(t.Context(), bytes.NewReader(archive), outlet.LoadOptions{GrantAll: true})
	refused("load", err)
	refused("set", f.Set(t.Context(), reg.Host+"/a/b:1", outlet.SetOptions{Set: []string{"data.source=/"}}))
	if err := f.Set(t.Context(), reg.Host+"/a/b:1", outlet.SetOptions{Set: []string{"data.source=/srv/other"}}); err != nil {
		t.Error(err)
	}
	f.clean()
}

func TestSignaturesComeAlongInALayout(t *testing.T) {
	free := newFixture(t)
	p := free.create("sample/one")
	rec, err := free.store.Get(t.Context(), p.ID)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := free.manifestOf(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	owner := newCosigner(t)
	f := newFixture(t, rules(t, fmt.Sprintf(`{"require":[{"keys":[%q]}]}`, owner.file)))
	archive := free.save("sample/one")
	if _, err := f.Load(t.Context(), bytes.NewReader(archive), outlet.LoadOptions{}); !errdefs.IsPermissionDenied(err) {
		t.Errorf("without a signature: %v", err)
	}
	payload, signature := owner.sign(t, doc.desc.Digest.String())
	signed := rewrite(t, archive, func(files map[string][]byte) {
		blob := func(b []byte) string {
			files["blobs/sha256/"+strings.TrimPrefix(rt.Digest(b), "sha256:")] = b
			return fmt.Sprintf(`"digest":%q,"size":%d`, rt.Digest(b), len(b))
		}
		manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":%q,%s},"layers":[{"mediaType":%q,%s,"annotations":{%q:%q}}]}`,
			ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, blob([]byte("{}")), simpleSigningType, blob(payload), signatureAnnotation, signature)
		entry := fmt.Sprintf(`{"mediaType":%q,%s,"annotations":{%q:%q}},`, ocispec.MediaTypeImageManifest, blob(manifest),
			ocispec.AnnotationRefName, "docker.io/sample/one:"+signatureTag(doc.desc.Digest))
		files["index.json"] = bytes.Replace(files["index.json"], []byte(`"manifests":[`), []byte(`"manifests":[`+entry), 1)
	})
	loaded, err := f.Load(t.Context(), signed, outlet.LoadOptions{})
	if err != nil || len(loaded.Plugins) != 1 || loaded.Plugins[0].Name != "sample/one:latest" {
		t.Errorf("with one: %+v, %v", loaded, err)
	}
}

func TestAnImageOfARegistryBecomesAPlugin(t *testing.T) {
	reg := rt.Start(t, rt.Options{})
	layer := rt.GzipLayer(t, rt.File{Name: "bin/"}, rt.File{Name: "bin/tool", Content: "tool", Mode: 0o755})
	layer.MediaType = ocispec.MediaTypeImageLayerGzip
	reg.Put(t, "an/image", "1", rt.Plugin{
		Config:     map[string]any{"os": "linux", "config": map[string]any{"Entrypoint": []string{"/bin/tool"}}},
		ConfigType: ocispec.MediaTypeImageConfig, ManifestType: ocispec.MediaTypeImageManifest, Layers: []rt.Layer{layer},
	})
	f := newFixture(t, quick)
	p, _, err := f.CreateFromImage(t.Context(), "of/image", nil, outlet.ImageOptions{Config: rawConfig(t, sampleConfig()), Ref: reg.Host + "/an/image:1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := f.read("of/image", "bin/tool"); err != nil || got != "tool" || p.Config.Entrypoint[0] != "/bin/tool" {
		t.Errorf("%q, %v, %v", got, p.Config.Entrypoint, err)
	}
	refused := newFixture(t, rules(t, `{"allow":["registry.lan/**"]}`))
	_, _, err = refused.CreateFromImage(t.Context(), "of/image", nil, outlet.ImageOptions{Config: rawConfig(t, sampleConfig()), Ref: reg.Host + "/an/image:1"})
	if !errdefs.IsPermissionDenied(err) || !strings.Contains(err.Error(), "allow") {
		t.Errorf("from a repository that is not allowed: %v", err)
	}
	refused.empty()
}
