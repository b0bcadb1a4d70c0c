package main

import (
	"context"
	"errors"
	"log"
	"net/http"

	"github.com/outletd/outlet/capability/volume"
	"github.com/outletd/outlet/sdk"
)

// service shows a driver to hosts.
type service struct {
	d   *driver
	log *log.Logger
}

// check gives an error the status of its class, and logs it.
func (s service) check(call, name string, err error) error {
	if err == nil {
		return nil
	}
	if !errors.Is(err, errNotFound) { // whoever creates a volume looks for it first
		s.log.Printf("%s %q: %v", call, name, err)
	}
	return sdk.WithStatus(status(err), err)
}

func status(err error) int {
	switch {
	case errors.Is(err, errNotFound):
		return http.StatusNotFound
	case errors.Is(err, errInvalid):
		return http.StatusBadRequest
	case errors.Is(err, errInUse):
		return http.StatusConflict
	default:
		return http.StatusInternalServerError
	}
}

func (s service) Scope(context.Context) (volume.Scope, error) { return volume.ScopeLocal, nil }

func (s service) Create(_ context.Context, name string, opts map[string]string) error {
	return s.check("create", name, s.d.create(name, opts))
}

func (s service) Get(_ context.Context, name string) (volume.Volume, error) {
	v, err := s.d.describe(name)
	return v, s.check("get", name, err)
}

func (s service) List(context.Context) ([]volume.Volume, error) { return s.d.list(), nil }

func (s service) Remove(_ context.Context, name string) error {
	return s.check("remove", name, s.d.remove(name))
}

func (s service) Path(_ context.Context, name string) (string, error) {
	v, err := s.d.describe(name)
	return v.Mountpoint, s.check("path", name, err)
}

func (s service) Mount(_ context.Context, name, id string) (string, error) {
	path, err := s.d.mount(name, id)
	return path, s.check("mount", name, err)
}

func (s service) Unmount(_ context.Context, name, id string) error {
	return s.check("unmount", name, s.d.unmount(name, id))
}
