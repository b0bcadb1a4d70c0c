package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/outletd/outlet/capability/secret"
	"github.com/outletd/outlet/sdk"
	"github.com/outletd/outlet/sdk/sdktest"
)

func TestConforms(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "password"), []byte("open sesame"), 0o600); err != nil {
		t.Fatal(err)
	}
	sdktest.Run(t, sdktest.Options{
		Addr:       sdktest.Serve(t, "dirsecret", sdk.Plugin{Secret: provider{dir}}),
		Implements: []string{"secretprovider"},
		Secrets:    map[string]string{"password": "open sesame"},
	})
}

func TestNothingOutsideTheDirectoryIsGivenOut(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "secrets")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(above, "private"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../private", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "large"), []byte(strings.Repeat("x", secret.MaxSize)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"link", "../private", "..", ".", "none"} {
		if s, err := (provider{dir}).GetSecret(t.Context(), secret.Request{SecretName: name}); err == nil {
			t.Errorf("%s is given out: %q", name, s.Value)
		}
	}
	s, err := provider{dir}.GetSecret(t.Context(), secret.Request{SecretName: "large", SecretLabels: map[string]string{"outlet.reuse": "false"}})
	if err != nil || len(s.Value) != secret.MaxSize || !s.DoNotReuse { // the sdk refuses it
		t.Errorf("%d bytes, not to be reused: %v, %v", len(s.Value), s.DoNotReuse, err)
	}
}
