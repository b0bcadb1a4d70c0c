package client

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/outletd/outlet"
)

// Remote looks at a plugin in a registry: what it is, what it asks for, and the
// digest to pull to get exactly that.
func (c *Client) Remote(ctx context.Context, reference string, o outlet.RemoteOptions) (outlet.RemotePlugin, error) {
	var p outlet.RemotePlugin
	q := url.Values{"remote": {reference}}
	platform(q, o)
	header, err := remoteHeader(o, nil)
	if err != nil {
		return p, err
	}
	resp, err := c.extension(ctx, request{method: http.MethodGet, path: "/plugins/remote", query: q, header: header})
	if err != nil {
		return p, err
	}
	return p, decode(resp, &p)
}

// Pull installs a plugin from a registry and returns its local name; it is left
// disabled. progress may be nil. What goes wrong after the transfer began has
// the class it would have had before.
func (c *Client) Pull(ctx context.Context, reference string, o outlet.PullOptions, progress func(outlet.Progress)) (name string, err error) {
	q := url.Values{"remote": {reference}}
	platform(q, o.RemoteOptions)
	for key, value := range map[string]string{"name": o.Name, "digest": o.Digest, "serviceID": o.ServiceID} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if len(o.Env) > 0 {
		q["env"] = o.Env
	}
	return c.transfer(ctx, "/plugins/pull", q, o.RemoteOptions, &o.Granted, progress)
}

// Upgrade replaces a plugin's content by what a registry has; reference "" is
// where the plugin came from. o.Running is what the daemon's extension always
// does: without it an enabled plugin is an errdefs.ErrConflict.
func (c *Client) Upgrade(ctx context.Context, name, reference string, o outlet.UpgradeOptions, progress func(outlet.Progress)) error {
	if _, err := pluginPath(name, ""); err != nil {
		return err
	}
	if !o.Running {
		p, err := c.Inspect(ctx, name)
		if err != nil {
			return err
		}
		if p.Enabled {
			return outlet.Errorf(errdefs.ErrConflict, "plugin must be disabled before upgrading: plugin %s is enabled", p.Name)
		}
	}
	q := url.Values{"plugin": {name}}
	platform(q, o.RemoteOptions)
	for key, value := range map[string]string{"remote": reference, "digest": o.Digest} {
		if value != "" {
			q.Set(key, value)
		}
	}
	if o.WhenIdle {
		q.Set("when-idle", "1")
	}
	_, err := c.transfer(ctx, "/plugins/upgrade", q, o.RemoteOptions, &o.Granted, progress)
	return err
}

// Push uploads a plugin to the registry that its name names. With o.Platform it
// joins the index that the tag names.
func (c *Client) Push(ctx context.Context, name string, o outlet.RemoteOptions, progress func(outlet.Progress)) (outlet.Pushed, error) {
	var pushed outlet.Pushed
	if _, err := pluginPath(name, ""); err != nil {
		return pushed, err
	}
	q := url.Values{"plugin": {name}}
	platform(q, o)
	_, err := c.transfer(ctx, "/plugins/push", q, o, nil, func(p outlet.Progress) {
		if p.Pushed != nil {
			pushed = *p.Pushed
		}
		if progress != nil {
			progress(p)
		}
	})
	return pushed, err
}

// Login has the daemon ask a registry whether it takes the credentials, and
// returns the identity token the registry gives in exchange, if it gives one.
// The daemon keeps nothing.
func (c *Client) Login(ctx context.Context, a outlet.RegistryAuth) (identityToken string, err error) {
	body, header, err := jsonBody(a)
	if err != nil {
		return "", err
	}
	resp, err := c.engine(ctx, request{method: http.MethodPost, path: "/auth", body: body, header: header})
	if err != nil {
		return "", err
	}
	var answer struct{ IdentityToken string }
	err = decode(resp, &answer)
	return answer.IdentityToken, err
}

// transfer is a request whose answer tells how far it is.
func (c *Client) transfer(ctx context.Context, path string, q url.Values, o outlet.RemoteOptions, granted *outlet.Privileges, progress func(outlet.Progress)) (name string, err error) {
	r := request{method: http.MethodPost, path: path, query: q}
	if granted != nil {
		if r.body, r.header, err = jsonBody(granted); err != nil {
			return "", err
		}
	}
	if r.header, err = remoteHeader(o, r.header); err != nil {
		return "", err
	}
	resp, err := c.extension(ctx, r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() // only read from
	err = lines(ctx, resp.Body, func(line []byte) error {
		var l struct {
			ID             string                          `json:"id"`
			Status         string                          `json:"status"`
			ProgressDetail *struct{ Current, Total int64 } `json:"progressDetail"`
			Aux            *outlet.Pushed                  `json:"aux"`
		}
		if err := json.Unmarshal(line, &l); err != nil {
			return &Error{Message: "the daemon's answer is not what was asked for: " + err.Error()}
		}
		p := outlet.Progress{ID: l.ID, Status: l.Status, Message: l.ProgressDetail == nil, Pushed: l.Aux}
		if l.ProgressDetail != nil {
			p.Current, p.Total = l.ProgressDetail.Current, l.ProgressDetail.Total
		}
		if progress != nil {
			progress(p)
		}
		return nil
	})
	return resp.Header.Get("Docker-Plugin-Name"), err
}

// remoteHeader adds to h what a registry is to be sent.
func remoteHeader(o outlet.RemoteOptions, h http.Header) (http.Header, error) {
	if h == nil {
		h = make(http.Header)
	}
	for k, v := range o.Header {
		if k = http.CanonicalHeaderKey(k); !strings.HasPrefix(k, "X-Meta-") {
			return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "the header %q is not passed on: only X-Meta-… are", k)
		}
		h[k] = v
	}
	if o.Auth != (outlet.RegistryAuth{}) {
		data, err := json.Marshal(o.Auth)
		if err != nil {
			return nil, outlet.Errorf(errdefs.ErrInvalidArgument, "encode request: %v", err)
		}
		h.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(data))
	}
	return h, nil
}

func platform(q url.Values, o outlet.RemoteOptions) {
	if o.Platform != "" {
		q.Set("platform", o.Platform)
	}
}
