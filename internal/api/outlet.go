package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/outletd/outlet"
)

// OutletInfo is what a [SystemBackend] tells of Outlet; the answer of
// /outlet/v1/info.
type OutletInfo struct {
	Version     string
	Root        string // where plugins are kept
	ExecRoot    string // where sockets and bundles are
	Runtime     RuntimeInfo
	Snapshotter string
	LiveRestore bool
	Warnings    []string
	Plugins     PluginCounts
}

// RuntimeInfo describes what runs plugins; the fields are those of
// runtime.Info.
type RuntimeInfo struct {
	Name     string
	Path     string
	Version  string
	Commit   string
	Isolates bool // separates plugins from the host
	Seccomp  bool
}

// PluginCounts are numbers of plugins.
type PluginCounts struct{ Total, Enabled, Running int }

func (s *Server) outletInfo(w http.ResponseWriter, r *http.Request) error {
	in, err := s.cfg.System.OutletInfo(r.Context())
	if err != nil {
		return err
	}
	if in.Version == "" {
		in.Version = s.cfg.Version
	}
	in.Warnings = list(in.Warnings)
	return writeJSON(w, http.StatusOK, in)
}

func (s *Server) outletCreate(w http.ResponseWriter, r *http.Request) error {
	p, warnings, err := s.create(w, r)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, struct {
		Plugin   outlet.Plugin
		Warnings []string
	}{p, list(warnings)})
}

func (s *Server) outletPrivileges(w http.ResponseWriter, r *http.Request) error {
	_, name, err := pluginQuery(r)
	if err != nil {
		return err
	}
	privileges, err := s.cfg.Plugins.Privileges(r.Context(), name)
	if err != nil {
		return err
	}
	answer := []wordedPrivilege{}
	for _, p := range privileges {
		answer = append(answer, wordedPrivilege{p.Name, p.Description, list(p.Value), outlet.Words(p)})
	}
	return writeJSON(w, http.StatusOK, answer)
}

// wordedPrivilege is a privilege with what it means to the host.
type wordedPrivilege struct {
	Name        string
	Description string
	Value       []string
	Words       string
}

func (s *Server) outletEnable(w http.ResponseWriter, r *http.Request) error {
	q, name, err := pluginQuery(r)
	if err != nil {
		return err
	}
	var o outlet.EnableOptions
	if o.Timeout, err = durationParam(q, "timeout"); err != nil {
		return err
	}
	if o.StartTimeout, err = durationParam(q, "start-timeout"); err != nil {
		return err
	}
	ctx, cancel := s.detached(r)
	defer cancel()
	if err := s.cfg.Plugins.Enable(ctx, name, o); err != nil {
		return err
	}
	p, err := s.cfg.Plugins.Inspect(ctx, name)
	if err != nil {
		return err
	}
	return writeJSON(w, http.StatusOK, p)
}

func (s *Server) outletSet(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	var o outlet.SetOptions
	if err := readJSON(r, &o); err != nil {
		return err
	}
	name, err := required(q, "plugin")
	if err != nil {
		return err
	}
	return s.change(w, r, http.StatusNoContent, func(ctx context.Context) error {
		return s.cfg.Plugins.Set(ctx, name, o)
	})
}

// methodBytes are those that a method of the plugin protocol may consist of.
const methodBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/"

func (s *Server) call(w http.ResponseWriter, r *http.Request) error {
	q, name, err := pluginQuery(r)
	if err != nil {
		return err
	}
	method, err := required(q, "method")
	if err != nil {
		return err
	}
	if strings.Trim(method, methodBytes) != "" || strings.HasPrefix(method, "/") || strings.Contains(method, "..") {
		return invalid("%q is not the name of a method such as VolumeDriver.List", method)
	}
	body, err := readBody(r)
	if err != nil {
		return err
	}
	if len(body) > 0 && !json.Valid(body) {
		return invalid("invalid JSON: the body of a call must be one JSON value")
	}
	code, answer, err := s.cfg.Plugins.Call(r.Context(), name, method, body)
	if err != nil {
		return err
	}
	w.Header().Set("Outlet-Plugin-Status", strconv.Itoa(code))
	contentType := typeJSON
	if !json.Valid(answer) {
		contentType = "text/plain; charset=utf-8"
	}
	writeBody(w, http.StatusOK, contentType, answer)
	return nil
}
