package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes/docker"

	"github.com/outletd/outlet"
)

// maxToken bounds the answer of a token server.
const maxToken = 1 << 20

// pluginClass is how the scope of a plugin's repository begins. Docker Hub gives
// no token for a plugin without it.
const pluginClass = "repository(plugin):"

// authorizer is containerd's, told about the class of our repositories, and kept
// from giving credentials to anybody but the endpoint they are for.
type authorizer struct {
	inner  docker.Authorizer
	client *http.Client // to token servers
	host   string
	token  string // given by the user, used as it is

	mu sync.Mutex
	// plainScope says that the token server knows no classes.
	plainScope bool
}

func newAuthorizer(e *endpoint, client *http.Client, auth outlet.RegistryAuth) *authorizer {
	username, secret := credentials(auth)
	return &authorizer{
		host:   e.Host,
		client: client,
		token:  auth.RegistryToken,
		inner: docker.NewDockerAuthorizer(
			docker.WithAuthClient(client),
			docker.WithAuthCreds(func(host string) (string, string, error) {
				if host != e.Host {
					return "", "", nil
				}
				return username, secret, nil
			}),
		),
	}
}

// credentials are the user name and secret of auth; a secret without a name is
// an identity token.
func credentials(auth outlet.RegistryAuth) (username, secret string) {
	switch {
	case auth.IdentityToken != "":
		return "", auth.IdentityToken
	case auth.Username == "" && auth.Auth != "":
		raw, err := base64.StdEncoding.DecodeString(auth.Auth)
		if err != nil {
			return "", ""
		}
		username, secret, _ = strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
		return username, secret
	default:
		return auth.Username, auth.Password
	}
}

// authorize adds what the endpoint was found to ask for.
func (a *authorizer) authorize(ctx context.Context, req *http.Request) error {
	if a.token != "" {
		req.Header.Set("Authorization", "Bearer "+a.token)
		return nil
	}
	if a.plain() {
		return a.inner.Authorize(ctx, req)
	}
	err := a.inner.Authorize(withClass(ctx), req)
	if err == nil || ctx.Err() != nil {
		return err
	}
	// Some token servers refuse scopes of a class they do not know.
	if a.inner.Authorize(ctx, req) != nil {
		return err
	}
	a.usePlain()
	return nil
}

// challenged looks at answers of which the last is a 401. It returns nil if the
// request should be made again.
func (a *authorizer) challenged(ctx context.Context, responses []*http.Response, had bool) error {
	last := responses[len(responses)-1]
	if last.Request.URL.Host != a.host {
		return errForeignChallenge
	}
	if a.token != "" {
		return docker.ErrInvalidAuthorization
	}
	if had && !a.plain() {
		// The token with the class was not enough; maybe the class hid the rest.
		a.usePlain()
		responses = responses[len(responses)-1:]
	}
	return a.inner.AddResponses(ctx, responses)
}

var errForeignChallenge = errors.New("asked for credentials after a redirect")

func (a *authorizer) plain() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.plainScope
}

func (a *authorizer) usePlain() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.plainScope = true
}

// withClass adds to each scope of a repository the one with the class.
func withClass(ctx context.Context) context.Context {
	for _, scope := range docker.GetTokenScopes(ctx, nil) {
		if rest, ok := strings.CutPrefix(scope, "repository:"); ok {
			ctx = docker.WithScope(ctx, pluginClass+rest)
		}
	}
	return ctx
}

// tokenTransport is for requests to token servers, whose address a registry
// chooses.
type tokenTransport struct {
	base     http.RoundTripper
	plainToo bool
}

func (t *tokenTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !t.plainToo {
		return nil, fmt.Errorf("refused to send credentials to the token server %s over plain HTTP", req.URL.Host)
	}
	resp, err := t.base.RoundTrip(req.WithContext(withBlob(req.Context(), false)))
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.LimitReader(resp.Body, maxToken), resp.Body}
	}
	return resp, err
}
