package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/remotes/docker/auth"
	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// hubIndex is the server address of Docker Hub in clients' files.
const hubIndex = "index.docker.io"

// loginTimeout bounds the asking of one endpoint.
const loginTimeout = 15 * time.Second

// Login asks a registry whether it takes the credentials. It returns an identity
// token if the registry gives one to be kept instead of the password. Wrong
// credentials are errdefs.ErrUnauthenticated, an address that is none
// errdefs.ErrInvalidArgument.
func (c *Client) Login(ctx context.Context, a outlet.RegistryAuth) (identityToken string, err error) {
	domain, err := serverDomain(a.ServerAddress)
	if err != nil {
		return "", err
	}
	endpoints, err := c.endpoints(ctx, domain, a)
	if err != nil {
		return "", err
	}
	defer (&Repository{endpoints: endpoints}).Close()
	e := endpoints[len(endpoints)-1]
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	return c.login(ctx, e, a)
}

// serverDomain is the registry that a client's server address means.
func serverDomain(address string) (string, error) {
	if address == "" {
		return dockerHub, nil
	}
	raw := address
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil {
		return "", outlet.Errorf(errdefs.ErrInvalidArgument, "unable to parse server address: %q", raw)
	}
	if u.Host == hubIndex || u.Host == "registry-1.docker.io" {
		return dockerHub, nil
	}
	return u.Host, nil
}

func (c *Client) login(ctx context.Context, e *endpoint, a outlet.RegistryAuth) (string, error) {
	address := e.Scheme + "://" + e.Host + e.Path + "/"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", outlet.Errorf(errdefs.ErrInvalidArgument, "unable to parse server address: %v", err)
	}
	req.Header.Set("User-Agent", c.cfg.UserAgent)
	resp, err := e.client.Do(req)
	if err != nil {
		return "", requestError(ctx, e.Host, req, err)
	}
	defer resp.Body.Close() // only read from
	if resp.StatusCode == http.StatusOK {
		return "", nil // it asks nobody
	}
	if resp.StatusCode != http.StatusUnauthorized {
		return "", fmt.Errorf("login attempt to %s failed with status: %s", address, clip(resp.Status))
	}
	username, secret := credentials(a)
	for _, ch := range auth.ParseAuthHeader(resp.Header) {
		switch ch.Scheme {
		case auth.BearerAuth:
			return c.loginToken(ctx, e, address, ch, username, secret)
		case auth.BasicAuth:
			again := req.Clone(ctx)
			again.SetBasicAuth(username, secret)
			return "", e.loginAnswer(ctx, address, again)
		case auth.DigestAuth:
		}
	}
	return "", outlet.Errorf(errdefs.ErrInvalidArgument, "registry %s asks for credentials of a kind that is not supported", e.Host)
}

// loginAnswer makes a request with credentials and reads what it means.
func (e *endpoint) loginAnswer(ctx context.Context, address string, req *http.Request) error {
	resp, err := e.client.Do(req)
	if err != nil {
		return requestError(ctx, e.Host, req, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body.Close()
	}
	status := clip(resp.Status)
	var answer *Error
	errors.As(answerError(e.Host, resp), &answer)
	if answer.Status == http.StatusUnauthorized {
		return unauthorized(address, answer.Reason)
	}
	return fmt.Errorf("login attempt to %s failed with status: %s", address, status)
}

func unauthorized(address, reason string) error {
	if !strings.HasPrefix(reason, "unauthorized") {
		reason = "unauthorized: " + reason
	}
	return outlet.Errorf(errdefs.ErrUnauthenticated, "Get %q: %s", address, reason)
}

func (c *Client) loginToken(ctx context.Context, e *endpoint, address string, ch auth.Challenge, username, secret string) (string, error) {
	to, err := auth.GenerateTokenOptions(ctx, e.Host, username, secret, ch)
	if err != nil {
		return "", &Error{Host: e.Host, Reason: clip(err.Error())}
	}
	to.FetchRefreshToken = true
	client, header := e.auth.client, http.Header{"User-Agent": {c.cfg.UserAgent}}
	var token, refresh string
	if username == "" && secret != "" {
		var t *auth.OAuthTokenResponse
		if t, err = auth.FetchTokenWithOAuth(ctx, client, header, "docker", to); err == nil {
			token, refresh = t.AccessToken, t.RefreshToken
		}
	} else {
		to.Realm = withQuery(to.Realm, "client_id", "docker")
		var t *auth.FetchTokenResponse
		if t, err = auth.FetchToken(ctx, client, header, to); err == nil {
			token, refresh = t.Token, t.RefreshToken
		}
	}
	if err != nil {
		req, rerr := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if rerr != nil {
			return "", rerr
		}
		err = requestError(ctx, e.Host, req, err)
		var answer *Error
		if errors.As(err, &answer) && (answer.Status == http.StatusUnauthorized || answer.Status == http.StatusForbidden) {
			return "", unauthorized(address, answer.Reason)
		}
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	return refresh, e.loginAnswer(ctx, address, req)
}

func withQuery(address, key, value string) string {
	u, err := url.Parse(address)
	if err != nil {
		return address
	}
	q := u.Query()
	q.Set(key, value)
	u.RawQuery = q.Encode()
	return u.String()
}
