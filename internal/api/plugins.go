package api

import (
	"context"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/outletd/outlet"
)

func (s *Server) listPlugins(w http.ResponseWriter, r *http.Request) error {
	f, err := listFilters(r, "enabled", "capability")
	if err != nil {
		return err
	}
	filter := outlet.ListFilter{Capabilities: f.values("capability")}
	if filter.Enabled, err = f.boolean("enabled"); err != nil {
		return err
	}
	body, err := s.cache.answer("list\x00"+listKey(filter), func() ([]byte, error) {
		plugins, err := s.cfg.Plugins.List(r.Context(), filter)
		if err != nil {
			return nil, err
		}
		return encode(list(plugins))
	})
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, "application/json", body)
	return nil
}

// listKey tells filters apart.
func listKey(f outlet.ListFilter) string {
	enabled := "any"
	if f.Enabled != nil {
		enabled = strconv.FormatBool(*f.Enabled)
	}
	return enabled + "\x00" + strings.Join(f.Capabilities, "\x00")
}

func (s *Server) inspectPlugin(w http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	body, err := s.cache.answer("inspect\x00"+name, func() ([]byte, error) {
		p, err := s.cfg.Plugins.Inspect(r.Context(), name)
		if err != nil {
			return nil, err
		}
		return encode(p)
	})
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, "application/json", body)
	return nil
}

func (s *Server) createPlugin(w http.ResponseWriter, r *http.Request) error {
	_, _, err := s.create(w, r)
	if err == nil {
		w.WriteHeader(http.StatusNoContent)
	}
	return err
}

// create makes a plugin of the request's body. Unlike other changes it ends
// when the client hangs up: half a tar is no plugin.
func (s *Server) create(w http.ResponseWriter, r *http.Request) (outlet.Plugin, []string, error) {
	q, err := parseQuery(r)
	if err != nil {
		return outlet.Plugin{}, nil, err
	}
	p, warnings, err := s.cfg.Plugins.Create(r.Context(), q.Get("name"), r.Body, outlet.CreateOptions{
		ServiceID: q.Get("serviceID"),
		Env:       q["env"],
	})
	if err != nil {
		if w, ok := w.(*response); ok && r.Context().Err() == nil {
			s.refuseUpload(w, r, err)
			return outlet.Plugin{}, nil, errAnswered
		}
		return outlet.Plugin{}, nil, err
	}
	for _, warning := range warnings {
		s.log.WarnContext(r.Context(), "plugin created with a warning", "plugin", p.Name, "warning", warning)
	}
	return p, warnings, nil
}

// enableTimeout reads whole seconds; not given is no limit.
func enableTimeout(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > math.MaxInt64/int(time.Second) {
		return 0, invalid("invalid timeout %q", text)
	}
	return time.Duration(n) * time.Second, nil
}

func (s *Server) enablePlugin(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	timeout, err := enableTimeout(q.Get("timeout"))
	if err != nil {
		return err
	}
	return s.change(w, r, http.StatusOK, func(ctx context.Context) error {
		return s.cfg.Plugins.Enable(ctx, r.PathValue("name"), outlet.EnableOptions{Timeout: timeout})
	})
}

func (s *Server) disablePlugin(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	return s.change(w, r, http.StatusOK, func(ctx context.Context) error {
		return s.cfg.Plugins.Disable(ctx, r.PathValue("name"), truthy(q.Get("force")))
	})
}

func (s *Server) removePlugin(w http.ResponseWriter, r *http.Request) error {
	q, err := parseQuery(r)
	if err != nil {
		return err
	}
	return s.change(w, r, http.StatusOK, func(ctx context.Context) error {
		return s.cfg.Plugins.Remove(ctx, r.PathValue("name"), truthy(q.Get("force")))
	})
}

func (s *Server) setPlugin(w http.ResponseWriter, r *http.Request) error {
	if _, err := parseQuery(r); err != nil {
		return err
	}
	var args []string
	if err := readJSON(r, &args); err != nil {
		return err
	}
	return s.change(w, r, http.StatusNoContent, func(ctx context.Context) error {
		return s.cfg.Plugins.Set(ctx, r.PathValue("name"), outlet.SetOptions{Set: args})
	})
}
