package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/outletd/outlet"
)

// origin is the endpoint that is written to: never a mirror.
func (r *Repository) origin() (*endpoint, error) {
	for i := len(r.endpoints) - 1; i >= 0; i-- {
		if e := r.endpoints[i]; !e.mirror && e.Capabilities.Has(docker.HostCapabilityPush) {
			return e, nil
		}
	}
	return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "the configuration of registry %s allows no push", reference.Domain(r.ref))
}

func (r *Repository) pushScope(ctx context.Context) context.Context {
	return docker.WithScope(ctx, "repository:"+reference.Path(r.ref)+":pull,push")
}

// PushBlob uploads a blob unless the registry has it, which existed says. open
// is called for each attempt.
func (r *Repository) PushBlob(ctx context.Context, desc ocispec.Descriptor, open func() (io.ReadCloser, error)) (existed bool, err error) {
	e, err := r.origin()
	if err != nil {
		return false, err
	}
	ctx = r.pushScope(ctx)
	resp, err := r.do(ctx, e, request{method: http.MethodHead, path: "blobs/" + desc.Digest.String()}, http.StatusOK)
	if err == nil {
		return true, resp.Body.Close()
	}
	if !errdefs.IsNotFound(err) {
		return false, err
	}
	resp, err = r.do(ctx, e, request{method: http.MethodPost, path: "blobs/uploads/"}, http.StatusAccepted, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return false, err
	}
	resp.Body.Close() // only read from
	to, err := uploadURL(resp, desc.Digest)
	if err != nil {
		return false, &Error{Host: e.Host, Reason: err.Error()}
	}
	resp, err = r.do(ctx, e, request{
		method: http.MethodPut, url: to, body: open, size: desc.Size,
		header: http.Header{"Content-Type": {"application/octet-stream"}},
	}, http.StatusCreated, http.StatusOK, http.StatusNoContent)
	if err != nil {
		return false, err
	}
	return false, resp.Body.Close()
}

// uploadURL is where the answer to the begin of an upload says to send a blob.
func uploadURL(resp *http.Response, d digest.Digest) (string, error) {
	location, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || location.String() == "" {
		return "", fmt.Errorf("it did not say where to upload to: %q", clip(resp.Header.Get("Location")))
	}
	u := resp.Request.URL.ResolveReference(location)
	if u.Scheme == "http" && resp.Request.URL.Scheme == "https" && u.Host == resp.Request.URL.Host {
		u.Scheme = "https" // it does not know that TLS ends before it
	}
	if u.Scheme != "https" && (u.Scheme != "http" || resp.Request.URL.Scheme == "https") {
		return "", fmt.Errorf("it says to upload to %s over plain HTTP", u.Host)
	}
	q := u.Query()
	q.Set("digest", d.String())
	u.RawQuery = q.Encode()
	return u.String(), nil
}

// PushManifest stores a manifest under the reference's tag, or under its digest
// if the reference has no tag.
func (r *Repository) PushManifest(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	if tagged, ok := r.ref.(reference.Tagged); ok {
		return r.putManifest(ctx, tagged.Tag(), desc, raw)
	}
	return r.PushUntagged(ctx, desc, raw)
}

// PushUntagged stores a manifest under its digest, and leaves the reference's tag
// alone.
func (r *Repository) PushUntagged(ctx context.Context, desc ocispec.Descriptor, raw []byte) error {
	return r.putManifest(ctx, desc.Digest.String(), desc, raw)
}

func (r *Repository) putManifest(ctx context.Context, object string, desc ocispec.Descriptor, raw []byte) error {
	e, err := r.origin()
	if err != nil {
		return err
	}
	resp, err := r.do(r.pushScope(ctx), e, request{
		method: http.MethodPut, path: "manifests/" + object, size: int64(len(raw)),
		body:   func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil },
		header: http.Header{"Content-Type": {desc.MediaType}},
	}, http.StatusCreated, http.StatusOK, http.StatusAccepted, http.StatusNoContent)
	if err != nil {
		return err
	}
	resp.Body.Close() // only read from
	if got := resp.Header.Get("Docker-Content-Digest"); got != "" && got != desc.Digest.String() {
		return &Error{Host: e.Host, Reason: fmt.Sprintf("it stored the manifest as %s instead of %s", clip(got), desc.Digest)}
	}
	return nil
}
