package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/outletd/outlet"
)

// registries is the backend of the routes below, or an error for a server that
// has none.
func (s *Server) registries(what string) (RegistryBackend, error) {
	if s.cfg.Registries == nil {
		return nil, outlet.Errorf(errdefs.ErrNotImplemented, "%s is not supported by this version of Outlet: it does not talk to registries yet", what)
	}
	return s.cfg.Registries, nil
}

// remoteOptions reads credentials and headers that are for a registry. Bad
// credentials count as none, as with Docker, but somebody may wonder at the
// registry's answer.
func (s *Server) remoteOptions(r *http.Request, q url.Values) outlet.RemoteOptions {
	a, err := parseRegistryAuth(r.Header.Get("X-Registry-Auth"))
	if err != nil {
		s.log.WarnContext(r.Context(), "the X-Registry-Auth header is ignored", "error", err)
	}
	o := outlet.RemoteOptions{Auth: a, Platform: q.Get("platform")}
	for k, v := range r.Header {
		if strings.HasPrefix(k, "X-Meta-") {
			if o.Header == nil {
				o.Header = make(map[string][]string)
			}
			o.Header[k] = v
		}
	}
	return o
}

// checkRemote is whether the reference to pull is one.
func checkRemote(q url.Values) error {
	if _, err := reference.ParseNormalizedNamed(q.Get("remote")); err != nil {
		return invalid("%w", err)
	}
	return nil
}

func (s *Server) remotePrivileges(w http.ResponseWriter, r *http.Request) error {
	p, err := s.remote(r, "asking for the privileges of a remote plugin")
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, p.Privileges)
}

// outletRemote tells all there is to know of a plugin in a registry.
func (s *Server) outletRemote(w http.ResponseWriter, r *http.Request) error {
	p, err := s.remote(r, "asking for a remote plugin")
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, p)
}

func (s *Server) remote(r *http.Request, what string) (outlet.RemotePlugin, error) {
	q, err := parseQuery(r)
	if err != nil {
		return outlet.RemotePlugin{}, err
	}
	o := s.remoteOptions(r, q)
	if err := checkRemote(q); err != nil {
		return outlet.RemotePlugin{}, err
	}
	backend, err := s.registries(what)
	if err != nil {
		return outlet.RemotePlugin{}, err
	}
	ctx, cancel := s.streaming(r)
	defer cancel()
	return backend.Remote(ctx, q.Get("remote"), o)
}

func (s *Server) pullPlugin(w http.ResponseWriter, r *http.Request) error {
	return s.pull(w, r, false)
}

// outletPull is pull with what the Engine API has no words for.
func (s *Server) outletPull(w http.ResponseWriter, r *http.Request) error { return s.pull(w, r, true) }

func (s *Server) pull(w http.ResponseWriter, r *http.Request, ours bool) error {
	q, granted, err := pullRequest(r)
	if err != nil {
		return err
	}
	o := outlet.PullOptions{RemoteOptions: s.remoteOptions(r, q), Granted: granted, Name: q.Get("name"), Digest: q.Get("digest")}
	o.ServiceID, o.Env = q.Get("serviceID"), q["env"]
	if err := checkRemote(q); err != nil {
		return err
	}
	parsed, err := outlet.ParseRemote(q.Get("remote"), o.Name)
	if err != nil {
		return err
	}
	backend, err := s.registries("installing from a registry")
	if err != nil {
		return err
	}
	p := s.openProgress(w, r, ours)
	defer p.close()
	p.header("Docker-Plugin-Name", parsed.Name)
	_, err = backend.Pull(p.st.ctx, q.Get("remote"), o, p.tell)
	return p.end(err)
}

func (s *Server) upgradePlugin(w http.ResponseWriter, r *http.Request) error {
	q, granted, err := pullRequest(r)
	if err != nil {
		return err
	}
	return s.upgrade(w, r, q, r.PathValue("name"), outlet.UpgradeOptions{RemoteOptions: s.remoteOptions(r, q), Granted: granted}, false)
}

// outletUpgrade also upgrades plugins that are enabled.
func (s *Server) outletUpgrade(w http.ResponseWriter, r *http.Request) error {
	q, granted, err := pullRequest(r)
	if err != nil {
		return err
	}
	name, err := required(q, "plugin")
	if err != nil {
		return err
	}
	return s.upgrade(w, r, q, name, outlet.UpgradeOptions{
		RemoteOptions: s.remoteOptions(r, q), Granted: granted, Digest: q.Get("digest"),
		Running: true, WhenIdle: truthy(q.Get("when-idle")),
	}, true)
}

func (s *Server) upgrade(w http.ResponseWriter, r *http.Request, q url.Values, name string, o outlet.UpgradeOptions, ours bool) error {
	if !ours || q.Get("remote") != "" { // ours: where it came from
		if err := checkRemote(q); err != nil {
			return err
		}
	}
	backend, err := s.registries("upgrading from a registry")
	if err != nil {
		return err
	}
	have, err := s.cfg.Plugins.Inspect(r.Context(), name)
	if err != nil {
		return err
	}
	p := s.openProgress(w, r, ours)
	defer p.close()
	p.header("Docker-Plugin-Name", have.Name)
	_, err = backend.Upgrade(p.st.ctx, have.ID, q.Get("remote"), o, p.tell) //nolint:contextcheck // the answer's context ends with the request's
	return p.end(err)                                                       //nolint:contextcheck // as above
}

// pullRequest reads what pull and upgrade have in common.
func pullRequest(r *http.Request) (url.Values, outlet.Privileges, error) {
	q, err := parseQuery(r)
	if err != nil {
		return nil, nil, err
	}
	var granted outlet.Privileges
	if err := readJSON(r, &granted); err != nil {
		return nil, nil, err
	}
	return q, granted, nil
}

func (s *Server) pushPlugin(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	return s.push(w, r, q, r.PathValue("name"), false)
}

// outletPush is push whose error lines have statuses.
func (s *Server) outletPush(w http.ResponseWriter, r *http.Request) error {
	q, name, err := pluginQuery(r)
	if err != nil {
		return err
	}
	return s.push(w, r, q, name, true)
}

func (s *Server) push(w http.ResponseWriter, r *http.Request, q url.Values, name string, ours bool) error {
	o := s.remoteOptions(r, q)
	backend, err := s.registries("pushing to a registry")
	if err != nil {
		return err
	}
	p := s.openProgress(w, r, ours)
	defer p.close()
	_, err = backend.Push(p.st.ctx, name, o, p.tell)
	return p.end(err)
}

// auth asks a registry whether it takes credentials. Nothing is kept.
func (s *Server) auth(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(r)
	if err != nil {
		return err
	}
	var a registryAuth
	dec := json.NewDecoder(bytes.NewReader(body))
	if err := dec.Decode(&a); err != nil {
		return invalid("invalid credentials: invalid JSON: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid("invalid credentials: multiple JSON documents not allowed")
	}
	backend, err := s.registries("logging in to a registry")
	if err != nil {
		return err
	}
	ctx, cancel := s.streaming(r)
	defer cancel()
	token, err := backend.Login(ctx, a)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Status        string
		IdentityToken string `json:",omitempty"`
	}{"Login Succeeded", token})
}
