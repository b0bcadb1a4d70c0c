package daemon

import (
	"time"

	"github.com/outletd/outlet/internal/version"
	"github.com/outletd/outlet/manager"
)

// RegistryLimits bound what registries may send, and how long they may take. A
// field that is 0 takes its default.
type RegistryLimits struct {
	// AnswerTimeout bounds the wait for the begin of an answer, and the time that
	// it may stand still: 30s. DocumentTimeout bounds the time in which all of it
	// must have arrived, if it is no layer: 2m.
	AnswerTimeout   Duration `json:"answer-timeout"`
	DocumentTimeout Duration `json:"document-timeout"`
	// RetryWait is the wait before a request that failed is made again, doubled
	// each time: 500ms. MaxRetryWait bounds it, and what a registry asks for: 1m.
	RetryWait    Duration `json:"retry-wait"`
	MaxRetryWait Duration `json:"max-retry-wait"`
	// MirrorPenalty is how long a mirror that failed is passed over: 5m.
	MirrorPenalty Duration `json:"mirror-penalty"`
	// MaxManifest and MaxConfig bound manifests (4m) and configs (1m).
	MaxManifest Bytes `json:"max-manifest"`
	MaxConfig   Bytes `json:"max-config"`
}

// registries says how registries are reached. Directories of certificates are
// ours and then Docker's, for those who have theirs there already.
func (c Config) registries() manager.RegistryConfig {
	l := c.Registries
	return manager.RegistryConfig{
		Mirrors:         c.RegistryMirrors,
		Insecure:        c.InsecureRegistries,
		CertsDirs:       []string{"/etc/outlet/certs.d", "/etc/docker/certs.d"},
		UserAgent:       "outlet/" + version.Version(),
		Attempts:        c.MaxDownloadAttempts,
		Backoff:         time.Duration(l.RetryWait),
		MaxWait:         time.Duration(l.MaxRetryWait),
		AnswerTimeout:   time.Duration(l.AnswerTimeout),
		DocumentTimeout: time.Duration(l.DocumentTimeout),
		MirrorPenalty:   time.Duration(l.MirrorPenalty),
		MaxManifest:     int64(l.MaxManifest),
		MaxConfig:       int64(l.MaxConfig),
	}
}
