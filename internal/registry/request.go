package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

// request is one request to a repository, not yet bound to an endpoint.
type request struct {
	method string
	path   string // below the repository: "manifests/latest"
	// url, if not "", is the whole address instead of path: where an endpoint
	// told us to upload to.
	url    string
	header http.Header
	// body opens what is sent, each time it is; size is its length.
	body func() (io.ReadCloser, error)
	size int64
}

// maxChallenges is how often one request may be asked for other credentials.
const maxChallenges = 3

// do makes a request at one endpoint and answers its challenges. The statuses
// given are successes; any other is an [*Error].
func (r *Repository) do(ctx context.Context, e *endpoint, q request, success ...int) (*http.Response, error) {
	var responses []*http.Response
	for {
		req, err := r.newRequest(ctx, e, q)
		if err != nil {
			return nil, err
		}
		if e.is(req.URL) {
			if err := e.auth.authorize(ctx, req); err != nil {
				return nil, requestError(ctx, e.Host, req, err)
			}
		}
		had := req.Header.Get("Authorization") != ""
		resp, err := e.client.Do(req)
		if err != nil {
			return nil, requestError(ctx, e.Host, req, err)
		}
		if resp.StatusCode == http.StatusUnauthorized && len(responses) < maxChallenges {
			responses = append(responses, resp)
			err := e.auth.challenged(ctx, responses, had)
			if err == nil {
				resp.Body.Close() // only read from
				continue
			}
			if said := answerError(e.Host, resp); errors.Is(err, docker.ErrInvalidAuthorization) || errors.Is(err, errForeignChallenge) || errdefs.IsNotImplemented(err) {
				return nil, said
			}
			return nil, requestError(ctx, e.Host, req, err)
		}
		for _, code := range success {
			if resp.StatusCode == code {
				return resp, nil
			}
		}
		return nil, answerError(e.Host, resp)
	}
}

// is says whether u is at the endpoint, reached as the endpoint is.
func (e *endpoint) is(u *url.URL) bool { return u.Host == e.Host && u.Scheme == e.Scheme }

func (r *Repository) newRequest(ctx context.Context, e *endpoint, q request) (*http.Request, error) {
	u := q.url
	if u == "" {
		u = e.url(reference.Path(r.ref) + "/" + q.path)
	}
	req, err := http.NewRequestWithContext(ctx, q.method, u, nil)
	if err != nil {
		return nil, err
	}
	added := []http.Header{q.header}
	if e.is(req.URL) { // those of users and of the configuration may be credentials
		added = []http.Header{e.Header, q.header}
		if !e.proxy { // users mean the registry, and know of no mirror
			added = []http.Header{r.header, e.Header, q.header}
		}
	}
	for _, h := range added {
		for k, v := range h {
			req.Header[http.CanonicalHeaderKey(k)] = v
		}
	}
	req.Header.Set("User-Agent", r.c.cfg.UserAgent)
	// What is asked for by its digest must come as it is.
	req.Header.Set("Accept-Encoding", "identity")
	if q.body != nil {
		if req.Body, err = q.body(); err != nil {
			return nil, err
		}
		req.GetBody, req.ContentLength = q.body, q.size
		if q.size == 0 {
			_ = req.Body.Close() // or it would be sent in chunks
			req.Body, req.GetBody = http.NoBody, nil
		}
	}
	return req, nil
}

// read makes a request that only reads at one endpoint after the other, until
// one answers. f is given the answer and may refuse it; it closes the body.
func (r *Repository) read(ctx context.Context, caps docker.HostCapabilities, of distrust, q request, success []int, f func(*endpoint, *http.Response) error) error {
	ctx = docker.WithScope(ctx, "repository:"+reference.Path(r.ref)+":pull")
	var failure error
	for i, e := range r.endpoints {
		last := i == len(r.endpoints)-1
		if !e.Capabilities.Has(caps) || r.isDistrusted(e, of) {
			continue
		}
		if e.mirror && !last && r.c.penalised(e.Host) {
			continue
		}
		resp, err := r.do(ctx, e, q, success...) //nolint:bodyclose // f closes it
		if err == nil {
			err = f(e, resp)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return err
		}
		failure = err
		if e.mirror {
			var answer *Error
			if !errors.As(err, &answer) || answer.Status == 0 || passingStatus(answer.Status) {
				r.c.penalise(e.Host)
			}
			r.c.log.Debug("a registry mirror is passed over", "mirror", e.Host, "err", err)
		}
	}
	if failure == nil {
		failure = &Error{Host: reference.Domain(r.ref), Reason: "no endpoint of it can be used"}
	}
	return failure
}

func (r *Repository) isDistrusted(e *endpoint, of distrust) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	of.host = e.Host
	return r.distrusted[of]
}
