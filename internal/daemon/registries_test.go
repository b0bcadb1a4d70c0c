package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/outletd/outlet/internal/version"
	"github.com/outletd/outlet/manager"
)

func TestLimitsOfRegistriesAreConfigured(t *testing.T) {
	file := filepath.Join(t.TempDir(), "daemon.json")
	const text = `{"registry-mirrors": ["https://m.example"], "insecure-registries": ["r.lan"], "max-download-attempts": 7, "max-concurrent-uploads": 2,
		"registries": {"answer-timeout": "3s", "document-timeout": "4s", "retry-wait": "5ms", "max-retry-wait": "6s", "mirror-penalty": "8s", "max-manifest": "1m", "max-config": "64k"}}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(Defaults(0, os.Getenv), file, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := manager.RegistryConfig{
		Mirrors: []string{"https://m.example"}, Insecure: []string{"r.lan"}, CertsDirs: []string{"/etc/outlet/certs.d", "/etc/docker/certs.d"},
		UserAgent: "outlet/" + version.Version(), Attempts: 7,
		AnswerTimeout: 3 * time.Second, DocumentTimeout: 4 * time.Second, Backoff: 5 * time.Millisecond, MaxWait: 6 * time.Second,
		MirrorPenalty: 8 * time.Second, MaxManifest: 1 << 20, MaxConfig: 64 << 10,
	}
	if diff := cmp.Diff(want, c.registries()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if c.MaxConcurrentUploads != 2 {
		t.Errorf("%d uploads", c.MaxConcurrentUploads)
	}
}
