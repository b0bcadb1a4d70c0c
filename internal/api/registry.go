package api

import (
	"net/http"
	"net/url"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"

	"github.com/outletd/outlet"
)

// The routes in this file read and check their requests as they always will,
// and then say that there is no registry to ask.

func errNoRegistry(what string) error {
	return outlet.Errorf(errdefs.ErrNotImplemented, "%s is not supported by this version of Outlet: it does not talk to registries yet", what)
}

// noteAuth reads the credentials of a request. Bad ones count as none, as with
// Docker, but somebody may wonder at the registry's answer.
func (s *Server) noteAuth(r *http.Request) registryAuth {
	a, err := parseRegistryAuth(r.Header.Get("X-Registry-Auth"))
	if err != nil {
		s.log.WarnContext(r.Context(), "the X-Registry-Auth header is ignored", "error", err)
	}
	return a
}

// remote is the reference to pull.
func remote(q url.Values) (reference.Named, error) {
	ref, err := reference.ParseNormalizedNamed(q.Get("remote"))
	if err != nil {
		return nil, invalid("%w", err)
	}
	return ref, nil
}

// privilege is one entry of the body that grants privileges.
type privilege struct {
	Name        string
	Description string
	Value       []string
}

func (s *Server) remotePrivileges(_ http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	s.noteAuth(r)
	if _, err := remote(q); err != nil {
		return err
	}
	return errNoRegistry("asking for the privileges of a remote plugin")
}

func (s *Server) pullPlugin(_ http.ResponseWriter, r *http.Request) error {
	q, err := s.pullRequest(r)
	if err != nil {
		return err
	}
	if name := q.Get("name"); name != "" {
		ref, err := reference.ParseNormalizedNamed(name)
		if err != nil {
			return invalid("%w", err)
		}
		if _, ok := ref.(reference.Canonical); ok {
			return invalid("cannot use digest in plugin tag")
		}
	}
	return errNoRegistry("installing from a registry")
}

func (s *Server) upgradePlugin(_ http.ResponseWriter, r *http.Request) error {
	if _, err := s.pullRequest(r); err != nil {
		return err
	}
	return errNoRegistry("upgrading from a registry")
}

func (s *Server) pullRequest(r *http.Request) (url.Values, error) {
	q, err := parseQuery(r)
	if err != nil {
		return nil, err
	}
	var granted []privilege
	if err := readJSON(r, &granted); err != nil {
		return nil, err
	}
	s.noteAuth(r)
	if _, err := remote(q); err != nil {
		return nil, err
	}
	return q, nil
}

func (s *Server) pushPlugin(_ http.ResponseWriter, r *http.Request) error {
	s.noteAuth(r)
	return errNoRegistry("pushing to a registry")
}

func (s *Server) auth(_ http.ResponseWriter, r *http.Request) error {
	if _, err := readBody(r); err != nil {
		return err
	}
	return errNoRegistry("logging in to a registry")
}
