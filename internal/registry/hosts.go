package registry

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/remotes/docker/config"
	"github.com/containerd/errdefs"
	"github.com/containerd/log"
	"github.com/sirupsen/logrus"

	"github.com/outletd/outlet"
)

// dockerHub is how references to Docker Hub begin.
const dockerHub = "docker.io"

const (
	// maxRedirects is what net/http allows too.
	maxRedirects = 10
	// maxHeaders bounds the headers of an answer. What they say is repeated to
	// others: the scopes of a challenge to a token server, one by one.
	maxHeaders = 256 << 10
)

// endpoint is one place that a repository can be reached at.
type endpoint struct {
	docker.RegistryHost
	client *http.Client
	auth   *authorizer
	domain string // of the reference
	mirror bool   // it may be passed over
	proxy  bool   // it serves several registries and must be told which
	idle   []*http.Transport
}

// host is a host as it is configured, with the transports below its client.
type host struct {
	docker.RegistryHost
	idle []*http.Transport
}

// endpoints are the places of a registry in the order in which they are asked;
// the last is the registry itself.
func (c *Client) endpoints(ctx context.Context, domain string, auth outlet.RegistryAuth) ([]*endpoint, error) {
	hosts, err := c.configured(ctx, domain)
	if err != nil {
		return nil, err
	}
	var list []*endpoint
	if domain == dockerHub {
		for _, m := range c.mirrors {
			mirrored, err := c.mirror(ctx, m.Scheme, m.Host, strings.TrimSuffix(m.Path, "/"))
			if err != nil {
				return nil, err
			}
			list = append(list, c.endpoint(ctx, mirrored, domain, true, outlet.RegistryAuth{}))
		}
	}
	for i, h := range hosts {
		own := h.Host == domain || domain == dockerHub && h.Host == "registry-1.docker.io"
		granted := outlet.RegistryAuth{}
		if own {
			granted = auth
		}
		list = append(list, c.endpoint(ctx, h, domain, !own && i < len(hosts)-1, granted))
	}
	return list, nil
}

// configured are the hosts of a registry as its directory of certificates, the
// list of insecure ones and the rules for loopback say.
func (c *Client) configured(ctx context.Context, name string) ([]host, error) {
	var idle []*http.Transport
	o := config.HostOptions{HostDir: c.hostDir, UpdateClient: func(client *http.Client) error {
		if t, ok := client.Transport.(*http.Transport); ok {
			t.MaxResponseHeaderBytes = maxHeaders
			idle = append(idle, t)
		}
		return nil
	}}
	if c.insecure(ctx, name) && !docker.IsLocalhost(name) { // containerd knows about loopback itself
		o.DefaultScheme = "http"                             // after TLS was tried: see ConfigureHosts
		o.DefaultTLS = &tls.Config{InsecureSkipVerify: true} //nolint:gosec // what an insecure registry is
	}
	found, err := config.ConfigureHosts(log.WithLogger(ctx, quiet()), o)(name)
	if err != nil {
		return nil, fmt.Errorf("configure registry %s: %w", name, err)
	}
	if len(found) == 0 {
		return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "the configuration of registry %s allows no endpoint", name)
	}
	hosts := make([]host, len(found))
	for i, h := range found {
		hosts[i] = host{h, idle}
	}
	return hosts, nil
}

// quiet is a logger for what containerd says about each host it is asked for.
func quiet() *log.Entry {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return logrus.NewEntry(l)
}

func (c *Client) mirror(ctx context.Context, scheme, name, path string) (host, error) {
	hosts, err := c.configured(ctx, name)
	if err != nil {
		return host{}, err
	}
	h := hosts[len(hosts)-1]
	if scheme == "http" && !c.insecure(ctx, name) {
		h.Scheme = "http" // the operator said so
	}
	h.Path = path + "/v2"
	h.Capabilities = docker.HostCapabilityPull | docker.HostCapabilityResolve
	return h, nil
}

// endpoint makes a host usable: bounded, with its own credentials.
func (c *Client) endpoint(ctx context.Context, h host, domain string, mirror bool, auth outlet.RegistryAuth) *endpoint {
	e := &endpoint{RegistryHost: h.RegistryHost, domain: domain, mirror: mirror, idle: h.idle}
	e.proxy = h.Host != domain && (domain != dockerHub || h.Host != "registry-1.docker.io")
	policy := retryPolicy{c: c, attempts: c.cfg.Attempts, answer: c.cfg.AnswerTimeout, whole: c.cfg.DocumentTimeout}
	if mirror {
		policy.attempts, policy.answer = 1, c.cfg.AnswerTimeout/3
	}
	plainToo := h.Scheme == "http" || c.insecure(ctx, h.Host)
	transport := &retryTransport{base: h.Client.Transport, policy: policy}
	e.client = &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		return checkRedirect(req, via, plainToo)
	}}
	e.auth = newAuthorizer(e, &http.Client{
		Transport: &tokenTransport{base: transport, plainToo: plainToo},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			return checkTokenRedirect(req, via, plainToo)
		},
	}, auth)
	return e
}

// checkRedirect keeps credentials from other hosts, other ports of the same one
// included, and a secure registry from sending its clients over plain HTTP. Any
// header that a user or the configuration of a registry adds may be a credential.
func checkRedirect(req *http.Request, via []*http.Request, plainToo bool) error {
	if len(via) >= maxRedirects {
		return errors.New("stopped after 10 redirects")
	}
	if req.URL.Scheme != "https" && !plainToo {
		return fmt.Errorf("refused a redirect to %s over plain HTTP", req.URL.Host)
	}
	if req.URL.Host != via[0].URL.Host || req.URL.Scheme != "https" && via[0].URL.Scheme == "https" {
		for name := range req.Header {
			if !forAnybody[name] {
				delete(req.Header, name)
			}
		}
	}
	return nil
}

// checkTokenRedirect is checkRedirect for requests that may have credentials in
// their body, which is sent again as it was.
func checkTokenRedirect(req *http.Request, via []*http.Request, plainToo bool) error {
	if from := via[0].URL; req.Method == http.MethodPost && (req.URL.Host != from.Host || req.URL.Scheme != from.Scheme) {
		return fmt.Errorf("refused to send credentials on from the token server %s to %s", from.Host, req.URL.Host)
	}
	return checkRedirect(req, via, plainToo)
}

// forAnybody are the headers that say nothing of who asks.
var forAnybody = map[string]bool{
	"Accept": true, "Accept-Encoding": true, "Content-Length": true, "Content-Range": true,
	"Content-Type": true, "Range": true, "User-Agent": true,
}

// hostDir finds the directory that configures a registry; there may be none.
func (c *Client) hostDir(host string) (string, error) {
	if strings.ContainsAny(host, "/\\") || host == "." || host == ".." {
		return "", errdefs.ErrNotFound
	}
	for _, dir := range c.cfg.CertsDirs {
		found, err := config.HostDirFromRoot(dir)(host)
		if err == nil {
			return filepath.Clean(found), nil
		}
		if !errdefs.IsNotFound(err) && !errors.Is(err, os.ErrPermission) {
			return "", err
		}
	}
	return "", errdefs.ErrNotFound
}

// insecure says whether a registry's certificate is not verified.
func (c *Client) insecure(ctx context.Context, host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.Trim(name, "[]")
	if docker.IsLocalhost(host) {
		return true
	}
	var networks []netip.Prefix
	for _, n := range c.cfg.Insecure {
		if n == host || n == name {
			return true
		}
		if p, err := netip.ParsePrefix(n); err == nil {
			networks = append(networks, p)
		}
	}
	if len(networks) == 0 {
		return false
	}
	addrs := lookup(ctx, name)
	for _, p := range networks {
		for _, a := range addrs {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
	}
	return false
}

// lookup resolves a name; one that does not resolve is in no network.
func lookup(ctx context.Context, name string) []netip.Addr {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a}
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	if err != nil {
		return nil
	}
	return addrs
}

// url is where something of the repository is.
func (e *endpoint) url(elem string) string {
	u := e.Scheme + "://" + e.Host + e.Path + "/" + elem
	if e.proxy && !strings.Contains(u, "?") {
		u += "?ns=" + e.domain
	}
	return u
}
