package registry

import (
	"cmp"
	"context"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/outletd/outlet"
)

// Config says how registries are reached. Its zero value reaches public ones.
type Config struct {
	// Mirrors are asked before Docker Hub when something of Docker Hub is read:
	// URLs with a scheme, "https://mirror.example.org".
	Mirrors []string
	// Insecure are hosts ("registry.lan:5000") and networks ("10.0.0.0/8") whose
	// certificates are not verified, and that may speak plain HTTP. Loopback
	// addresses always are.
	Insecure []string
	// CertsDirs are directories of directories named like registries, with
	// *.crt, *.cert and *.key, or a hosts.toml. The first that has one for a
	// registry counts.
	CertsDirs []string
	// UserAgent is what requests say they come from; "" is "outlet".
	UserAgent string
	// Attempts bounds how often a request is made that fails in a way that
	// passes, and how often a download is resumed without getting 64 KiB
	// further; 0 is 5.
	Attempts int
	// Backoff is the wait after the first failure; it doubles. 0 is 500 ms.
	Backoff time.Duration
	// MaxWait bounds one wait, whatever a registry's Retry-After asks for; 0 is
	// one minute.
	MaxWait time.Duration
	// AnswerTimeout bounds the wait for the first byte of an answer, and the
	// time a body may stand still; 0 is 30 s. Mirrors have a third of it.
	AnswerTimeout time.Duration
	// DocumentTimeout bounds the time in which all of an answer must have arrived
	// that is no blob: a manifest, a config, a token, an error; 0 is two minutes.
	DocumentTimeout time.Duration
	// MirrorPenalty is how long a mirror that failed is not asked; 0 is five
	// minutes.
	MirrorPenalty time.Duration
	// MaxManifest and MaxConfig bound manifests and configs in bytes; 0 is 4 MiB
	// and 1 MiB.
	MaxManifest, MaxConfig int64
	// Logger may be nil, which discards.
	Logger *slog.Logger
}

// Client knows how to reach registries. It is safe for concurrent use.
type Client struct {
	cfg     Config
	log     *slog.Logger
	mirrors []*url.URL
	now     func() time.Time

	mu     sync.Mutex
	failed map[string]time.Time // when a mirror may be asked again, by host
}

// New checks cfg; a mirror that is not a URL is errdefs.ErrInvalidArgument.
func New(cfg Config) (*Client, error) {
	cfg.UserAgent = cmp.Or(cfg.UserAgent, "outlet")
	cfg.Attempts = cmp.Or(cfg.Attempts, 5)
	cfg.Backoff = cmp.Or(cfg.Backoff, 500*time.Millisecond)
	cfg.MaxWait = cmp.Or(cfg.MaxWait, time.Minute)
	cfg.AnswerTimeout = cmp.Or(cfg.AnswerTimeout, 30*time.Second)
	cfg.DocumentTimeout = cmp.Or(cfg.DocumentTimeout, 2*time.Minute)
	cfg.MirrorPenalty = cmp.Or(cfg.MirrorPenalty, 5*time.Minute)
	cfg.MaxManifest = cmp.Or(cfg.MaxManifest, 4<<20)
	cfg.MaxConfig = cmp.Or(cfg.MaxConfig, 1<<20)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, log: cfg.Logger, now: time.Now, failed: make(map[string]time.Time)}
	for _, m := range cfg.Mirrors {
		u, err := url.Parse(m)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "registry mirror %q is not a URL such as https://mirror.example.org", m)
		}
		c.mirrors = append(c.mirrors, u)
	}
	for _, n := range cfg.Insecure {
		if strings.Contains(n, "://") || n == "" {
			return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "insecure registry %q is neither a host such as registry.lan:5000 nor a network such as 10.0.0.0/8", n)
		}
	}
	return c, nil
}

// Options are the optional parts of reaching a repository.
type Options struct {
	// Auth are credentials for the reference's registry; nobody else gets them.
	Auth outlet.RegistryAuth
	// Header is sent with each request to the reference's registry; nobody else
	// gets it, its mirrors included.
	Header http.Header
}

// Repository is one repository of a registry for the length of one operation.
type Repository struct {
	c         *Client
	ref       reference.Named
	header    http.Header
	endpoints []*endpoint

	mu         sync.Mutex
	distrusted map[distrust]bool
}

// distrust is an endpoint that sent wrong bytes for a digest.
type distrust struct {
	host string
	of   digest.Digest
}

// Open makes a repository of the reference ready to be used. Nothing is sent to
// it yet, but where networks are insecure its name is resolved, which ctx ends.
// It must be closed.
func (c *Client) Open(ctx context.Context, ref reference.Named, o Options) (*Repository, error) {
	endpoints, err := c.endpoints(ctx, reference.Domain(ref), o.Auth)
	if err != nil {
		return nil, err
	}
	return &Repository{c: c, ref: ref, header: o.Header, endpoints: endpoints, distrusted: make(map[distrust]bool)}, nil
}

// Close closes the connections.
func (r *Repository) Close() {
	for _, e := range r.endpoints {
		for _, t := range e.idle {
			t.CloseIdleConnections()
		}
	}
}

// penalise keeps a mirror from being asked for a while.
func (c *Client) penalise(host string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed[host] = c.now().Add(c.cfg.MirrorPenalty)
}

func (c *Client) penalised(host string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	until, ok := c.failed[host]
	if ok && c.now().After(until) {
		delete(c.failed, host)
		ok = false
	}
	return ok
}
